import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { backoff } from '../internal/backoff.js';
import { type Clock, delay } from '../internal/clock.js';
import type { StreamStore } from '../storage/stream-store.interface.js';

/** A count is good for so long; milliseconds. */
const COUNT_AGE = 1_000;
/** Waits between two looks for room. */
const LOOK_BACKOFF = { base: 50, max: COUNT_AGE, jitter: 0.3 };

/**
 * Keeps a stream from growing beyond its `maxBuffered`. The messages are counted in the store, at most once a second; between two
 * counts this process adds up its own. Other processes do the same, so all together may overshoot by what they append in a second.
 */
export class BufferLimit {
  private known: { count: number; readonly at: number } | undefined;
  private counting: Promise<void> | undefined;
  /** Appends are let in in the order of the calls. */
  private last: Promise<unknown> = Promise.resolve();
  private waiting = 0;

  /** @param closing aborts when nothing is let in any more */
  constructor(
    private readonly stream: string,
    private readonly most: number,
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly closing: AbortSignal,
  ) {}

  /**
   * Lets in any number of messages as soon as there is room for one. Answers with nothing if that is now, so that the order of calls
   * stays; else with a promise.
   *
   * @throws AppendError `StreamFull` (by the promise), unless the caller waits; `ShuttingDown`
   */
  admit(messages: number, waits: boolean): Promise<void> | undefined {
    if (this.waiting === 0 && this.isFresh && this.hasRoom) {
      this.add(messages);
      return undefined;
    }
    this.waiting += 1;
    const before = this.last;
    const admitted = (async () => {
      // One that is refused lets the next one try.
      await before.catch(() => undefined);
      await this.room(waits);
      this.add(messages);
    })().finally(() => (this.waiting -= 1));
    this.last = admitted;
    return admitted;
  }

  private get isFresh(): boolean {
    return this.known !== undefined && this.clock.monotonic() - this.known.at < COUNT_AGE;
  }

  private get hasRoom(): boolean {
    return this.known !== undefined && this.known.count < this.most;
  }

  private add(messages: number): void {
    if (this.known) this.known.count += messages;
  }

  private async room(waits: boolean): Promise<void> {
    for (let looks = 1; ; looks += 1) {
      if (this.closing.aborted) throw this.refused(ErrorCode.ShuttingDown, 'the application is shutting down');
      // Who waits looks again sooner: it is held up.
      if (!this.isFresh || looks > 1) await this.count();
      if (this.hasRoom) return;
      if (!waits) {
        throw this.refused(
          ErrorCode.StreamFull,
          `the stream holds ${this.most} messages or more, its maxBuffered; append later, let it wait by overflow: 'wait', or see ` +
            'why its consumers do not keep up',
        );
      }
      await delay(this.clock, backoff(LOOK_BACKOFF, looks), this.closing);
    }
  }

  private count(): Promise<void> {
    this.counting ??= this.store
      .count(this.stream, this.most)
      .then((count) => {
        this.known = { count, at: this.clock.monotonic() };
      })
      .finally(() => (this.counting = undefined));
    return this.counting;
  }

  private refused(code: ErrorCode, why: string): AppendError {
    const details = { stream: this.stream, maxBuffered: this.most };
    return new AppendError(code, `append to '${this.stream}': ${why}`, 'no', { details });
  }
}
