import type { Log } from '../common/log.js';
import { isOutOfReach, shuttingDown } from '../errors/shutting-down.js';
import type { StreamStore } from '../storage/stream-store.interface.js';

/** The store of a process: opened by the first call that needs it, refused to calls that come after the end. */
export class StoreAccess {
  private opening: Promise<void> | undefined;
  private opened = false;
  private closing = false;
  private closed = false;

  constructor(
    readonly store: StreamStore,
    private readonly log?: Log,
  ) {}

  get isOpen(): boolean {
    return this.opened;
  }

  /** Opens the store once; the next call retries an attempt that failed. @throws MinibatchError `ShuttingDown` after `close` */
  async open(): Promise<void> {
    if (this.closed) throw shuttingDown('open the store');
    this.opening ??= this.store.open().then(
      async () => {
        this.opened = true;
        for (const warning of this.store.warnings ?? []) this.log?.warn(warning);
        // Opening took so long that the store has been closed meanwhile.
        if (this.closed) await this.store.close();
      },
      (error: unknown) => {
        this.opening = undefined;
        throw error;
      },
    );
    await this.opening;
  }

  /**
   * Calls the open store.
   *
   * @param what the call, for errors
   * @throws MinibatchError `ShuttingDown` if the call failed because the store was closed meanwhile
   */
  async ask<R>(what: string, call: (store: StreamStore) => Promise<R>): Promise<R> {
    if (this.closed) throw shuttingDown(what);
    try {
      await this.open();
      return await call(this.store);
    } catch (error) {
      throw this.closing && isOutOfReach(error) ? shuttingDown(what, { cause: error }) : error;
    }
  }

  /** As `ask`, for what is read page by page. */
  async *askEach<I>(
    what: string,
    read: (store: StreamStore) => AsyncGenerator<I, void, undefined>,
  ): AsyncGenerator<I, void, undefined> {
    const items = read(this.store);
    for (;;) {
      const next = await this.ask(what, () => items.next());
      if (next.done) return;
      yield next.value;
    }
  }

  /** From now on the store may be gone; calls are still let through. */
  beginClosing(): void {
    this.closing = true;
  }

  /** Refuses all further calls. The owner of the store closes it. */
  close(): void {
    this.closed = true;
  }
}
