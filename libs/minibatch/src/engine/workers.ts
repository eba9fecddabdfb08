/**
 * The workers of a consumer in this process. They outlive its terms: a run of the handler that has not settled when the lease is lost
 * keeps its worker in the next term, too, so there are never more runs than workers.
 */
export class Workers {
  private taken = 0;
  private readonly waiting = new Set<() => void>();
  /** Called when a worker is free again; set by the code that waits for one. */
  freed: (() => void) | undefined;

  constructor(private readonly count: number) {}

  get free(): number {
    return this.count - this.taken;
  }

  get hasFree(): boolean {
    return this.free > 0;
  }

  take(): void {
    this.taken += 1;
  }

  release(): void {
    const [next] = this.waiting;
    if (next && this.taken <= this.count) {
      // It gets this one.
      next();
      return;
    }
    this.taken -= 1;
    this.freed?.();
  }

  /**
   * Takes a worker as soon as one is free, before windows that have not begun. When the signal aborts it takes one that there is not, so that
   * it can be released all the same.
   */
  async wait(signal: AbortSignal): Promise<void> {
    if (this.hasFree || signal.aborted) {
      this.take();
      return;
    }
    await new Promise<void>((resolve) => {
      const got = () => {
        this.waiting.delete(got);
        signal.removeEventListener('abort', aborted);
        resolve();
      };
      const aborted = () => {
        this.take();
        got();
      };
      this.waiting.add(got);
      signal.addEventListener('abort', aborted, { once: true });
    });
  }
}
