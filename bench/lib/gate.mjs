/** A subject's own loop goes through it before each turn; shut, it stays there. */
export class Gate {
  #shut = false;
  #arrived = () => {};
  #opened = () => {};

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
    return new Promise((resolve) => (this.#arrived = resolve));
  }

  open() {
    this.#shut = false;
    this.#opened();
  }
}
