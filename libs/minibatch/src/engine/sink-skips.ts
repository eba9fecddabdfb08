/** Sinks that an operator wants to skip: they are still tried, but a failure does not keep the window. */
export class SinkSkips {
  private readonly names = new Set<string>();
  private areAll = false;
  private change = new AbortController();

  /** @param sink all of them if absent */
  add(sink: string | undefined): void {
    if (sink === undefined) this.areAll = true;
    else this.names.add(sink);
    const { change } = this;
    this.change = new AbortController();
    change.abort();
  }

  has(sink: string): boolean {
    return this.areAll || this.names.has(sink);
  }

  /** Aborts when the next one is added. */
  get changed(): AbortSignal {
    return this.change.signal;
  }
}
