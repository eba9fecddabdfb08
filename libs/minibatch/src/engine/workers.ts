/**
 * The workers of a consumer in this process. They outlive its terms: a run of the handler that has not settled when the lease is lost
 * keeps its worker in the next term, too, so there are never more runs than workers.
 */
export class Workers {
  private taken = 0;
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
    this.taken -= 1;
    this.freed?.();
  }
}
