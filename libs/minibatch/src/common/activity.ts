/**
 * Counts work in progress that does not wait for the clock, so that a test with a virtual clock knows when to advance it,
 * and a drain knows when it is over.
 */
export class Activity {
  private count = 0;
  private waiters: (() => void)[] = [];

  enter(): void {
    this.count += 1;
  }

  leave(): void {
    this.count -= 1;
    if (this.count > 0 || this.waiters.length === 0) return;
    const waiters = this.waiters;
    this.waiters = [];
    for (const resolve of waiters) resolve();
  }

  async track<R>(work: () => Promise<R>): Promise<R> {
    this.enter();
    try {
      return await work();
    } finally {
      this.leave();
    }
  }

  /** Waits for something that does not count as work in progress: the clock, or work that is counted elsewhere. */
  async aside<R>(wait: Promise<R>): Promise<R> {
    this.leave();
    try {
      return await wait;
    } finally {
      this.enter();
    }
  }

  /** Resolves when nothing is in progress; checks again a turn of the event loop later, since one task may start another. */
  async idle(): Promise<void> {
    do {
      if (this.count > 0) await new Promise<void>((resolve) => this.waiters.push(resolve));
      await new Promise<void>((resolve) => setImmediate(resolve));
    } while (this.count > 0);
  }
}
