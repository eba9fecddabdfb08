import type { Log } from '../common/log.js';
import { codeOf, ErrorCode, messageOf } from '../errors/minibatch.error.js';
import type { Activity } from '../common/activity.js';
import { delay, type Clock } from '../common/clock.js';
import type { ConsumerKey, StreamStore, StreamWatcher } from '../storage/stream-store.interface.js';
import type { WakeUpStatus } from './engine.interface.js';

/** With a change stream, polling is only the safety net; milliseconds. */
const WATCHED_POLL = 5_000;
/** Leases come many at a time: the store watches their streams together. Milliseconds. */
const GATHER = 50;

/** So few consumers are all asked for each time. */
const FEW = 100;
/** A consumer that began to wait no longer ago than this is polled as often as the store allows; as a multiple of the idle pause. */
const RECENT = 2;

/** However little the store says has changed, all consumers are asked for after this long; milliseconds. */
const SURE = 30_000;

/** A consumer that waits for new messages. */
export interface AwaitingConsumer {
  /** The same object as long as the consumer is here. */
  readonly key: ConsumerKey;
  wake(): void;
}

/** The consumers that wait for new messages. */
export interface AwaitingConsumers {
  /** How many there are, or a few more. */
  readonly size: number;
  all(): readonly AwaitingConsumer[];
  /** Those that began to wait a short while ago, and those of the streams. */
  recent(streams?: Iterable<string>): readonly AwaitingConsumer[];
  /** The recent ones were polled: those that began to wait before the time, by the monotonic clock, are recent no more. */
  polled(before: number): void;
}

/**
 * Notices messages that other processes appended: by the store's own watch where it has one, otherwise by polling — all awaiting
 * consumers in one command, often after activity and ever less often at rest. Where they are many, those that have rested for long are
 * polled as seldom as at rest, however busy the others are; and not at all while the store says that nothing has changed for them.
 */
export class WakeUps {
  /** What the last poll of each consumer returned; goes with the consumer's key. */
  private readonly tokens = new WeakMap<ConsumerKey, string>();
  private pause: number;
  /** What the store watches, or is to watch. */
  private watching: { readonly streams: string; readonly end: AbortController } | undefined;
  private gathering = false;
  private watched = false;
  private watchError: WakeUpStatus['lastError'];
  private failing = false;
  /** Monotonic times when it was last the turn of all consumers, and when all of them were asked for. */
  private turn = Number.NEGATIVE_INFINITY;
  private askedAll = Number.NEGATIVE_INFINITY;
  /** Up to where the store has told of changes. */
  private mark: string | undefined;
  private readonly stopped = new AbortController();
  private restartPause: (() => void) | undefined;

  constructor(
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly activity: Activity,
    private readonly awaiting: AwaitingConsumers,
    /** Streams whose consumers run here. */
    private readonly consumed: () => readonly string[],
    private readonly wakeStream: (stream: string) => void,
    /** Called with what a poll has failed with. */
    private readonly failed: (error: unknown) => void,
  ) {
    this.pause = store.polling.busy;
  }

  start(): void {
    void this.run();
  }

  stop(): void {
    this.stopped.abort();
    this.restartPause?.();
  }

  /** Something has happened on a stream: poll often again. */
  pollSoon(): void {
    if (this.pause === this.store.polling.busy) return;
    this.pause = this.store.polling.busy;
    this.restartPause?.();
  }

  /** The last poll has failed: messages of other processes may go unnoticed. */
  get isFailing(): boolean {
    return this.failing;
  }

  get status(): WakeUpStatus {
    return { by: this.watched ? 'watching' : 'polling', ...(this.watchError && { lastError: this.watchError }) };
  }

  /** Other streams are consumed here than before. */
  follow(): void {
    if (this.store.watch && !this.gathering) void this.gather();
  }

  private async gather(): Promise<void> {
    this.gathering = true;
    await delay(this.clock, GATHER, this.stopped.signal);
    this.gathering = false;
    if (this.stopped.signal.aborted) return;
    const streams = [...new Set(this.consumed())].toSorted();
    const id = JSON.stringify(streams);
    if (this.watching?.streams === id) return;
    this.watching?.end.abort();
    this.watched = false;
    const end = new AbortController();
    this.watching = { streams: id, end };
    if (streams.length > 0) await this.watch(streams, end);
  }

  private async watch(streams: readonly string[], end: AbortController): Promise<void> {
    const signal = AbortSignal.any([end.signal, this.stopped.signal]);
    const watcher: StreamWatcher = {
      wake: (stream) => {
        if (!signal.aborted) this.wakeStream(stream);
      },
      started: () => {
        if (signal.aborted) return;
        if (this.watchError) this.log.log('The store notifies of new messages again');
        this.watchError = undefined;
        this.watched = true;
      },
      failed: (error) => {
        if (!signal.aborted) this.watchFailed(error);
      },
    };
    try {
      await this.store.watch?.(streams, watcher, signal);
      if (!signal.aborted) this.watched = false;
    } catch (error) {
      watcher.failed(error);
    }
  }

  private watchFailed(error: unknown): void {
    if (!this.watchError)
      this.log.warn(`The store can't notify of new messages, polling until it can: ${messageOf(error)}`);
    this.watchError = {
      at: new Date(this.clock.now()),
      code: codeOf(error, ErrorCode.StoreUnavailable),
      message: messageOf(error),
    };
    if (!this.watched) return;
    this.watched = false;
    this.pause = this.store.polling.busy;
    this.restartPause?.();
  }

  private async run(): Promise<void> {
    while (!this.stopped.signal.aborted) {
      await this.rest();
      if (this.stopped.signal.aborted) return;
      await this.activity.track(() => this.poll());
    }
  }

  private async rest(): Promise<void> {
    const rest = new AbortController();
    this.restartPause = () => rest.abort();
    await delay(this.clock, this.watched ? Math.max(this.pause, WATCHED_POLL) : this.pause, rest.signal);
    this.restartPause = undefined;
    // Cut short: the pause begins again with its new length, so that a busy stream does not make it poll without end.
    if (rest.signal.aborted) await delay(this.clock, this.pause, this.stopped.signal);
  }

  private async poll(): Promise<void> {
    const { store, awaiting, clock } = this;
    const began = clock.monotonic();
    try {
      const { consumers, polled } = await this.due(began);
      const news =
        consumers.length > 0 && this.wakeChanged(consumers, await store.poll(consumers.map(({ key }) => key)));
      polled();
      awaiting.polled(began - store.polling.idle * RECENT);
      this.pause = news ? store.polling.busy : Math.min(this.pause * 2, store.polling.idle);
      this.failing = false;
    } catch (error) {
      if (!this.failing && !this.stopped.signal.aborted)
        this.log.warn(`Can't check for new messages, retrying: ${messageOf(error)}`);
      this.failing = true;
      this.failed(error);
      this.pause = store.polling.idle;
    }
  }

  /** The consumers to ask for, and what to note when they were. */
  private async due(
    now: number,
  ): Promise<{ readonly consumers: readonly AwaitingConsumer[]; readonly polled: () => void }> {
    const { store, awaiting } = this;
    const { busy, idle } = store.polling;
    const isTurn = awaiting.size <= FEW || now - this.turn >= idle - busy;
    if (!isTurn) return { consumers: awaiting.recent(), polled: () => undefined };
    const changes = awaiting.size > 0 ? await store.changedStreams?.(this.mark) : undefined;
    const streams = now - this.askedAll < SURE ? changes?.streams : undefined;
    return {
      consumers: streams ? awaiting.recent(streams) : awaiting.all(),
      polled: () => {
        this.turn = now;
        if (!streams) this.askedAll = now;
        this.mark = changes?.mark ?? this.mark;
      },
    };
  }

  /** True if there is news for one of them. */
  private wakeChanged(consumers: readonly AwaitingConsumer[], tokens: readonly string[]): boolean {
    let news = false;
    for (const [index, consumer] of consumers.entries()) {
      const token = tokens[index] ?? '';
      if (this.tokens.get(consumer.key) === token) continue;
      this.tokens.set(consumer.key, token);
      news = true;
      consumer.wake();
    }
    return news;
  }
}
