/**
 * The runs of a group's handler in this process: in all partitions, over all lease terms. What the handler needs is the same everywhere, so a
 * success in one partition says that it works for the others.
 */
export class HandlerRuns {
  private begun = 0;
  private lastSuccess = 0;
  private readonly watchers = new Set<() => void>();

  /** A run of the handler begins. @returns its number */
  begin(): number {
    this.begun += 1;
    return this.begun;
  }

  /** Stands for now: what begins from here on is later. */
  get mark(): number {
    return this.begun;
  }

  succeeded(run: number): void {
    this.lastSuccess = Math.max(this.lastSuccess, run);
    for (const told of this.watchers) told();
  }

  /** True if a run that began after the mark has succeeded. */
  hasSince(mark: number): boolean {
    return this.lastSuccess > mark;
  }

  /** Calls the function with each success. */
  watch(told: () => void): void {
    this.watchers.add(told);
  }

  unwatch(told: () => void): void {
    this.watchers.delete(told);
  }
}
