/** Which messages were handled: each group is to see each number from 0 on exactly once. */
export class Tally {
  constructor(total, groups = ['default']) {
    this.total = total;
    this.seen = new Map(groups.map((group) => [group, new Uint8Array(total)]));
    this.missing = total * groups.length;
    this.repeated = 0;
    this.complete = new Promise((resolve) => (this.done = resolve));
    if (this.missing === 0) this.done();
  }

  see(group, n) {
    const seen = this.seen.get(group);
    if (seen[n] === 1) {
      this.repeated += 1;
      return;
    }
    seen[n] = 1;
    this.missing -= 1;
    if (this.missing === 0) this.done();
  }

  seeAll(group, messages) {
    for (const { n } of messages) this.see(group, n);
  }

  /** Waits until all were handled, or for that long: what is missing then counts as lost. */
  async wait(milliseconds) {
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, milliseconds)));
    await Promise.race([this.complete, late]);
    clearTimeout(timer);
    return this.missing === 0;
  }

  get result() {
    return { lost: this.missing, repeated: this.repeated };
  }
}
