/** A subject's own loop goes through it before each turn; shut, it stays there. */
export class Gate {
  #wake;
  #shut = false;
  #arrived = () => {};
  #opened = () => {};

  /** @param {() => void} wake a loop that waits for messages: it is to come and see */
  constructor(wake = () => {}) {
    this.#wake = wake;
  }

  async pass() {
    while (this.#shut) {
      const opened = new Promise((resolve) => (this.#opened = resolve));
      this.#arrived();
      await opened;
    }
  }

  /** Resolves when the loop is there. */
  shut() {
    this.#shut = true;
    const there = new Promise((resolve) => (this.#arrived = resolve));
    this.#wake();
    return there;
  }

  open() {
    this.#shut = false;
    this.#opened();
  }
}
