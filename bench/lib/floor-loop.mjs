import { Gate } from './gate.mjs';

/** Takes one block after the other out of a bare database, as long as its gate is open. */
export class FloorLoop {
  gate = new Gate();
  #block;
  #handled = 0;
  #stopped = false;
  #wake;
  #running = Promise.resolve();

  /** @param block takes a block, and resolves with how many messages groups have handled by it: none if there are none */
  constructor(block) {
    this.#block = block;
  }

  start() {
    this.#running = this.#run();
  }

  /** Resolves when so many messages have been handled. */
  async settled(messages) {
    while (this.#handled < messages) await new Promise((resolve) => (this.#wake = resolve));
  }

  async stop() {
    this.#stopped = true;
    this.gate.open();
    await this.#running;
  }

  async #run() {
    while (!this.#stopped) {
      await this.gate.pass();
      const handled = await this.#block();
      if (handled === 0) continue;
      this.#handled += handled;
      this.#wake?.();
    }
  }
}
