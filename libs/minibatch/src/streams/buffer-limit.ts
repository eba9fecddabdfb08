import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { backoff } from '../internal/backoff.js';
import { type Clock, delay } from '../internal/clock.js';
import { followCalls, type OwnCall, ownCall } from '../internal/own-calls.js';
import type { StreamStore } from '../storage/stream-store.interface.js';

/** A count is good for so long; milliseconds. */
const COUNT_AGE = 1_000;
/** Waits between two looks for room. */
const LOOK_BACKOFF = { base: 50, max: COUNT_AGE, jitter: 0.3 };

/** A consumer's own appends wait so long before they are suspected to be what it waits for; milliseconds. */
const SUSPICIOUS = 5_000;

/** An append that waits for room, made by a handler or a sink of the stream's own consumer. */
interface OwnWait {
  readonly call: OwnCall;
  /** Monotonic. */
  readonly since: number;
  readonly refuse: (error: AppendError) => void;
  error?: AppendError;
}

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
  private readonly ownWaits = new Set<OwnWait>();

  /** @param closing aborts when nothing is let in any more */
  constructor(
    private readonly stream: string,
    private readonly most: number,
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly closing: AbortSignal,
  ) {
    followCalls(store, stream);
  }

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
    const call = waits ? ownCall() : undefined;
    if (call?.store === this.store && call.stream === this.stream) return this.admitOwn(call, messages, before);
    const admitted = this.admitAfter(before, messages, waits);
    this.last = admitted;
    return admitted;
  }

  /** It may be what its own consumer waits for; then it is refused, wherever in the queue it stands. */
  private admitOwn(call: OwnCall, messages: number, before: Promise<unknown>): Promise<void> {
    let refuse!: OwnWait['refuse'];
    const refused = new Promise<never>((_, reject) => (refuse = reject));
    const wait: OwnWait = { call, since: this.clock.monotonic(), refuse };
    this.ownWaits.add(wait);
    const admitted = this.admitAfter(before, messages, true, wait).finally(() => this.ownWaits.delete(wait));
    this.last = admitted;
    return Promise.race([admitted, refused]);
  }

  private admitAfter(before: Promise<unknown>, messages: number, waits: boolean, own?: OwnWait): Promise<void> {
    return (async () => {
      // One that is refused lets the next one try.
      await before.catch(() => undefined);
      await this.room(waits, own);
      this.add(messages);
    })().finally(() => (this.waiting -= 1));
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

  private async room(waits: boolean, own?: OwnWait): Promise<void> {
    for (let looks = 1; ; looks += 1) {
      if (this.closing.aborted) throw this.refused(ErrorCode.ShuttingDown, 'the application is shutting down');
      if (own?.error) throw own.error;
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
      await this.refuseStuck();
      if (own?.error) continue;
      await delay(this.clock, backoff(LOOK_BACKOFF, looks), this.closing);
    }
  }

  /**
   * A consumer all of whose workers wait here for room, while its own messages fill the stream, waits for itself. If others hold up the
   * stream as well, room may still come.
   */
  private async refuseStuck(): Promise<void> {
    const due = this.clock.monotonic() - SUSPICIOUS;
    const groups = new Map<string, Set<OwnCall>>();
    for (const { call, since } of this.ownWaits) {
      if (call.isOver || since > due) continue;
      groups.set(call.group, (groups.get(call.group) ?? new Set()).add(call));
    }
    const suspects = [...groups].filter(([, calls]) => [...calls].every(({ workers }) => calls.size >= workers));
    if (suspects.length === 0) return;
    const [stats] = await this.store.stats([this.stream]);
    for (const [group, calls] of suspects) {
      const pending = stats?.consumers.find((consumer) => consumer.group === group)?.pending ?? 0;
      if (pending < this.most) continue;
      for (const wait of this.ownWaits) if (calls.has(wait.call)) this.refuse(wait);
    }
  }

  private refuse(wait: OwnWait): void {
    const { group } = wait.call;
    wait.error = this.refused(
      ErrorCode.StreamFull,
      `it would wait for ever: the stream holds ${this.most} messages or more, its maxBuffered, and the append is made by the ` +
        `consumer '${group}' of the same stream, which has to finish its window before there is room. Append to another stream, ` +
        "raise maxBuffered, or set overflow: 'reject'",
    );
    this.ownWaits.delete(wait);
    wait.refuse(wait.error);
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
