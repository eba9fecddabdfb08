import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { backoff } from '../common/backoff.js';
import { BACKGROUND_CLOCK, type Clock, delay } from '../common/clock.js';
import { followCalls, type OwnCall, ownCall } from '../common/own-calls.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import { AnswerWatch } from './answer-watch.js';
import { notStored } from './append-failures.js';
import { isStoreAway, WaitingCalls } from './waiting-calls.js';
import { counted } from '../common/counted.js';

/** A count is valid for this long; milliseconds. */
const COUNT_AGE = 1_000;
/** Waits between two checks for room. */
const LOOK_BACKOFF = { base: 50, max: COUNT_AGE, jitter: 0.3 };

/** A consumer's own appends that wait longer are suspected of blocking it; milliseconds. */
const SUSPICIOUS = 5_000;

/** An append that waits for room. */
interface WaitingAppend {
  readonly messages: number;
  /** For room; otherwise only for the count. */
  readonly waits: boolean;
  /** Monotonic. */
  readonly since: number;
  /** Made by a handler or a sink of the stream's own consumer. */
  readonly call: OwnCall | undefined;
  readonly admit: () => void;
  readonly refuse: (error: AppendError) => void;
}

/**
 * Keeps a stream from growing beyond its `maxBuffered`. The messages are counted in the store, at most once a second; between two
 * counts this process adds up its own. Other processes do the same, so all together may overshoot by what they append in a second.
 */
export class BufferLimit {
  private known: { count: number; readonly at: number } | undefined;
  /** Appends are let in in the order of the calls. */
  private readonly waiting: WaitingCalls<WaitingAppend>;
  private isLooking = false;
  private readonly watch: AnswerWatch;

  /** @param closing aborts when nothing is let in any more */
  constructor(
    private readonly stream: string,
    private readonly most: number,
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly closing: AbortSignal,
  ) {
    followCalls(store, stream);
    this.waiting = new WaitingCalls(
      clock,
      () => store.patience,
      (append, error) => append.refuse(notStored(error)),
    );
    this.watch = new AnswerWatch({
      // Servers know nothing of a virtual clock.
      clock: BACKGROUND_CLOCK,
      patience: () => store.patience,
      look: () => store.count(stream, 1),
      silent: (error) => this.waiting.storeIsAway(clock.monotonic(), error),
    });
  }

  /**
   * Lets in any number of messages as soon as there is room for one. Answers with nothing if that is now, so that the order of calls
   * is kept; otherwise with a promise.
   *
   * @throws AppendError `StreamFull` (by the promise), unless the caller waits; `ShuttingDown`; `StoreUnavailable`
   */
  admit(messages: number, waits: boolean): Promise<void> | undefined {
    if (this.waiting.length === 0 && this.isFresh && this.hasRoom) {
      this.add(messages);
      return undefined;
    }
    const call = waits ? ownCall() : undefined;
    const isOwn = call?.store === this.store && call.stream === this.stream;
    return new Promise((admit, refuse) => {
      const since = this.clock.monotonic();
      this.waiting.add({ messages, waits, since, call: isOwn ? call : undefined, admit, refuse });
      if (!this.isLooking) void this.letIn();
    });
  }

  private async letIn(): Promise<void> {
    this.isLooking = true;
    let looks = 1;
    while (this.waiting.length > 0) {
      // Who waits looks again sooner: it is held up.
      const isCounted = (this.isFresh && looks === 1) || this.closing.aborted || (await this.count());
      if (isCounted && this.answerFirst()) {
        looks = 1;
        continue;
      }
      if (isCounted) await this.refuseStuck();
      await delay(this.clock, backoff(LOOK_BACKOFF, looks), this.closing);
      looks += 1;
    }
    this.isLooking = false;
  }

  /** False if it has to wait. */
  private answerFirst(): boolean {
    const { first } = this.waiting;
    // It may have been refused meanwhile.
    if (!first) return true;
    if (this.closing.aborted) {
      first.refuse(this.refused(ErrorCode.ShuttingDown, 'the application is shutting down'));
    } else if (this.hasRoom) {
      this.add(first.messages);
      first.admit();
    } else if (!first.waits) {
      first.refuse(
        this.refused(
          ErrorCode.StreamFull,
          `the stream holds ${counted(this.most, 'message')} or more, its maxBuffered; append later, let it wait by overflow: 'wait', or see ` +
            'why its consumers do not keep up',
        ),
      );
    } else return false;
    this.waiting.take(1);
    return true;
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

  /**
   * A consumer all of whose workers wait here for room, while its own messages fill the stream, waits for itself. If others hold up the
   * stream as well, room may still come.
   */
  private async refuseStuck(): Promise<void> {
    const due = this.clock.monotonic() - SUSPICIOUS;
    const groups = new Map<string, Set<OwnCall>>();
    for (const { call, since } of this.waiting) {
      if (call === undefined || call.isOver || since > due) continue;
      groups.set(call.group, (groups.get(call.group) ?? new Set()).add(call));
    }
    const suspects = [...groups].filter(([, calls]) => [...calls].every(({ workers }) => calls.size >= workers));
    if (suspects.length === 0) return;
    const [stats] = await this.store.stats([this.stream]).catch(() => []);
    for (const [group, calls] of suspects) {
      const pending = stats?.consumers.find((consumer) => consumer.group === group)?.pending ?? 0;
      if (pending < this.most) continue;
      for (const append of [...this.waiting]) if (append.call && calls.has(append.call)) this.refuseOwn(append, group);
    }
  }

  private refuseOwn(append: WaitingAppend, group: string): void {
    this.waiting.remove(append);
    append.refuse(
      this.refused(
        ErrorCode.StreamFull,
        `it would wait forever: the stream holds ${counted(this.most, 'message')} or more, its maxBuffered, and the append is made by the ` +
          `consumer '${group}' of the same stream, which has to finish its window before there is room. Append to another stream, ` +
          "raise maxBuffered, or set overflow: 'reject'",
      ),
    );
  }

  /** False if the store does not say. */
  private async count(): Promise<boolean> {
    const began = this.clock.monotonic();
    this.watch.begin();
    try {
      const count = await this.store.count(this.stream, this.most);
      this.known = { count, at: this.clock.monotonic() };
      this.waiting.storeIsBack();
      return true;
    } catch (error) {
      if (isStoreAway(error)) this.waiting.storeIsAway(began, error);
      else for (const append of this.waiting.take(this.waiting.length)) append.refuse(notStored(error));
      return false;
    } finally {
      this.watch.end();
    }
  }

  private refused(code: ErrorCode, why: string): AppendError {
    const details = { stream: this.stream, maxBuffered: this.most };
    return new AppendError(code, `append to '${this.stream}': ${why}`, 'no', { details });
  }
}
