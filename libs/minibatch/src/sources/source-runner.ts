import type { Log } from '../common/log.js';
import { isA, stackOf } from '../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import { unlessAborted } from '../common/abort.js';
import { backoff, type BackoffOptions } from '../common/backoff.js';
import { type Clock, delay } from '../common/clock.js';
import { counted } from '../common/counted.js';
import { guarded } from '../common/guarded-signal.js';
import type { AppendOutcome } from '../storage/stream-store.interface.js';
import type { RetryOptions } from '../definitions/shared.options.js';
import type { Source, SourceTarget } from './source.interface.js';

/**
 * What a source is doing.
 *
 * ```text
 * running ─▶ waiting ─▶ running …   it failed; restarted after a backoff
 *    │           │
 *    ├───────────┴─▶ stopped         detached, or the application shuts down
 *    └─▶ done                        its feed is over
 * ```
 */
export const SourceState = {
  Running: 'running',
  Waiting: 'waiting',
  Done: 'done',
  Stopped: 'stopped',
} as const;
export type SourceState = (typeof SourceState)[keyof typeof SourceState];

/** A source of this process, as the status shows it. Counters since it was attached. */
export interface SourceStatus {
  readonly stream: string;
  readonly name: string;
  readonly state: SourceState;
  /** Messages that were stored. */
  readonly appended: number;
  /** Messages that were acknowledged and ignored, because the stream had seen their `dedupeId`. */
  readonly duplicates: number;
  /** How often it ended with an error. */
  readonly failures: number;
  readonly lastError?: { readonly at: Date; readonly code: string; readonly message: string };
}

export interface AttachOptions {
  /** Its positions are stored under this name. @default the class name */
  readonly name?: string;
  /** Waits before it is restarted. @default those of the module */
  readonly retry?: RetryOptions;
}

/** A source that feeds a stream. */
export interface AttachedSource {
  readonly status: SourceStatus;
  /** Resolves when it is done or stopped; never rejects, errors are in the status. */
  readonly finished: Promise<void>;
  /** Stops it; resolves within a second, even if the source ignores its signal. */
  detach(): Promise<void>;
}

/** Receives the outcomes of the messages of each append. */
export type OutcomeCounter = (outcomes: readonly AppendOutcome[]) => void;

export interface SourceRunnerParts {
  readonly name: string;
  readonly source: Source;
  /** The stream, for a source whose outcomes are passed to `count`. */
  readonly target: (count: OutcomeCounter) => SourceTarget;
  readonly clock: Clock;
  readonly log: Log;
  readonly retry: BackoffOptions;
}

/** Items of an async generator that may be in flight to the store at the same time. */
const UNDER_WAY = 100;

/** A source that continues for longer after its signal aborted is abandoned; milliseconds. */
const STOP_WAIT = 1000;

/** Runs one source: starts it, restarts it when it fails, counts, and stops it. */
export class SourceRunner implements AttachedSource {
  private state: SourceState = SourceState.Stopped;
  private appended = 0;
  private duplicates = 0;
  private failures = 0;
  /** Failures since the last message that was appended; they determine the backoff. */
  private inARow = 0;
  private lastError: SourceStatus['lastError'];
  private readonly stopping = new AbortController();
  private readonly target: SourceTarget;
  private detaching: Promise<void> | undefined;
  finished: Promise<void> = Promise.resolve();

  constructor(private readonly parts: SourceRunnerParts) {
    const { clock, log } = parts;
    this.target = { ...parts.target((outcomes) => this.count(outcomes)), clock, log };
  }

  get status(): SourceStatus {
    const { target, state, appended, duplicates, failures, lastError } = this;
    const { name } = this.parts;
    return { stream: target.name, name, state, appended, duplicates, failures, ...(lastError ? { lastError } : {}) };
  }

  start(): void {
    this.state = SourceState.Running;
    this.finished = this.run();
  }

  /** May be called several times; a source that does not stop is waited for once. */
  detach(): Promise<void> {
    this.detaching ??= this.stop();
    return this.detaching;
  }

  private async stop(): Promise<void> {
    this.stopping.abort();
    const { clock, log, name } = this.parts;
    const { target } = this;
    const waited = new AbortController();
    let finished = false;
    const running = this.finished.then(() => {
      finished = true;
      waited.abort();
    });
    await Promise.race([running, delay(clock, STOP_WAIT, waited.signal)]);
    if (finished) return;
    this.state = SourceState.Stopped;
    log.warn(`source ${name} of '${target.name}' did not stop within ${STOP_WAIT} ms of being aborted; abandoning it`);
  }

  private async run(): Promise<void> {
    const { clock, retry } = this.parts;
    const signal = guarded(this.stopping.signal, this.listenerFailed);
    while (!signal.aborted) {
      this.state = SourceState.Running;
      try {
        await this.feed(signal);
        this.state = signal.aborted ? SourceState.Stopped : SourceState.Done;
        if (!signal.aborted) this.tellDone();
        return;
      } catch (error) {
        // After a stop the error says only that it was interrupted.
        if (signal.aborted) break;
        this.failed(error);
        this.state = SourceState.Waiting;
        await delay(clock, backoff(retry, this.inARow), signal);
      }
    }
    this.state = SourceState.Stopped;
  }

  /** It is not started again. Who wrote one that returns too early would wait for its messages. */
  private tellDone(): void {
    const { log, name } = this.parts;
    const count = counted(this.appended + this.duplicates, 'message');
    log.log(`source ${name} of '${this.target.name}' is done, after ${count}: its stream() has ended`);
  }

  private readonly listenerFailed = (error: unknown): void => {
    const { log, name } = this.parts;
    log.error(
      `source ${name} of '${this.target.name}': a listener of its signal threw: ${messageOf(error)}`,
      stackOf(error),
    );
  };

  private failed(error: unknown): void {
    const { clock, log, name } = this.parts;
    const { target } = this;
    this.failures += 1;
    this.inARow += 1;
    const isOurs = isA(error, MinibatchError);
    const code = isOurs ? error.code : ErrorCode.SourceFailed;
    const message = messageOf(error);
    this.lastError = { at: new Date(clock.now()), code, message };
    log.error(
      `source ${name} of '${target.name}' failed and will be restarted: ${message}` +
        // Our own errors end with their code.
        (isOurs ? '' : ` [${code}]`),
      stackOf(error),
    );
  }

  private async feed(signal: AbortSignal): Promise<void> {
    const feed: unknown = this.parts.source.stream(this.target, signal);
    if (isAsyncIterable(feed)) await this.pump(feed, signal);
    else if (isOtherFeed(feed)) {
      throw new MinibatchError(
        ErrorCode.SourceFailed,
        'stream() returned a plain iterable or an Observable, of which nothing is read. Make it an async generator ' +
          '(async *stream(…) { yield … }), or append its items in an async method',
      );
    } else await feed;
  }

  /**
   * Appends the items of an async generator in their order, without waiting for each to be acknowledged before the next is
   * taken. The first that cannot be appended ends it.
   */
  private async pump(feed: AsyncIterable<unknown>, signal: AbortSignal): Promise<void> {
    const iterator = feed[Symbol.asyncIterator]();
    const failed = new AbortController();
    const over = AbortSignal.any([signal, failed.signal]);
    const underWay = new Set<Promise<void>>();
    try {
      while (!over.aborted) {
        const item = await unlessAborted(iterator.next(), over);
        if (item === undefined || item.done === true) break;
        const append = this.target
          .append(item.value)
          .catch((error: unknown) => failed.abort(error))
          .finally(() => underWay.delete(append));
        underWay.add(append);
        if (underWay.size >= UNDER_WAY) await Promise.race(underWay);
      }
    } finally {
      // Before a restart: later items must not overtake these.
      await Promise.all(underWay);
      // A generator that is stuck in an await returns only when that is over, so this does not wait for it.
      void Promise.resolve(iterator.return?.()).catch(() => undefined);
    }
    if (failed.signal.aborted) throw failed.signal.reason;
  }

  private count(outcomes: readonly AppendOutcome[]): void {
    const before = this.duplicates;
    let failed = false;
    for (const { status } of outcomes) {
      if (status === 'stored') this.appended += 1;
      else if (status === 'duplicate') this.duplicates += 1;
      else failed = true;
    }
    if (!failed) this.inARow = 0;
    if (powerOfTen(this.duplicates) > powerOfTen(before)) this.warnOfDuplicates();
  }

  private warnOfDuplicates(): void {
    const { log, name } = this.parts;
    const { duplicates, target } = this;
    log.warn(
      `source ${name} of '${target.name}': ${counted(duplicates, 'message')} ignored so far, because the stream ` +
        'has seen their dedupeId. This is expected after a restart, which reads some messages again. If they are new messages, or are ' +
        'replayed on purpose, give them other ids: see "Duplicates" in docs/guides/sources-and-sinks.md. The counter `duplicates` of the source keeps counting',
    );
  }
}

/** 0, then 1 from 1 on, 2 from 10 on, 3 from 100 on: one log line for each. */
function powerOfTen(count: number): number {
  return count === 0 ? 0 : String(count).length;
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

/** Other containers of items: awaiting one would end the source without any of them. */
function isOtherFeed(value: unknown): boolean {
  return typeof value === 'object' && value !== null && (Symbol.iterator in value || 'subscribe' in value);
}
