import { ErrorCode, messageOf, MinibatchError } from '../errors/minibatch.error.js';
import { isRefused } from '../errors/refusal.js';
import { backoff } from '../common/backoff.js';
import { asOwnCall } from '../common/own-calls.js';
import { SteadyResult } from '../common/steady-result.js';
import type { BatchWindow } from './batch-window.js';
import { BlockedSinks, countFailure } from './blocked-sinks.js';
import type { BlockedSink, NamedSink } from './engine.interface.js';
import { type InFlightWindow, stopSignal } from './in-flight-window.js';
import { SinkSkips } from './sink-skips.js';
import { RenewedSignal, type LeaseTerm } from './lease-term.js';
import type { Pauses } from './pauses.js';
import { limited } from './time-limit.js';

/** What became of a result. */
export type Delivered =
  | { readonly kind: 'delivered' }
  /** An operator gave its window up, or another sink refused it. */
  | { readonly kind: 'given up' }
  /** The term is over. */
  | { readonly kind: 'void' }
  /** A sink can never take it, and its messages are to be given up. */
  | { readonly kind: 'refused'; readonly error: unknown };

export const DELIVERED: Delivered = { kind: 'delivered' };
const GIVEN_UP: Delivered = { kind: 'given up' };
const VOID: Delivered = { kind: 'void' };
const NOTED = Promise.resolve();

/** A result on its way to the sinks of the consumer. */
interface PendingResult {
  readonly open: InFlightWindow;
  /** Sinks that are not done with it. */
  left: number;
  /** A sink has refused the result: the others are not retried. */
  isRefused: boolean;
  /** Ends the waits of the other sinks then; made by the first that refuses. */
  stop: AbortController | undefined;
  /** The last write of its failures. They are written one after another, so that the latest wins. */
  noted: Promise<void>;
}

/** Hands results to sinks. A sink that fails is retried until it takes the result: the messages are not to blame. */
export class Delivery {
  /** Sinks that did not take their result. */
  private readonly blockedSinks = new BlockedSinks();

  constructor(
    private readonly term: LeaseTerm,
    private readonly pauses: Pauses,
  ) {}

  get blocked(): boolean {
    return this.blockedSinks.size > 0;
  }

  get blockedBy(): readonly BlockedSink[] {
    return this.blockedSinks.named;
  }

  async deliver(open: InFlightWindow, result: unknown, window: BatchWindow): Promise<Delivered> {
    const { definition, parts } = this.term;
    const { length } = definition.sinks;
    if (length === 0) return DELIVERED;
    const pending: PendingResult = { open, left: length, isRefused: false, stop: undefined, noted: NOTED };
    this.pauses.delivering(length);
    const first = new SteadyResult(result);
    const results = definition.sinks.map((_, index) => (index === 0 ? first : first.copy()));
    const puts = definition.sinks.map((sink, index) =>
      parts.activity.track(() => this.put(pending, sink, results[index] ?? first, window)),
    );
    // All of them: the worker is not free while one is in flight.
    const ends = await parts.activity.aside(Promise.allSettled(puts));
    const done: Delivered[] = [];
    for (const end of ends) {
      if (end.status === 'rejected') throw end.reason;
      done.push(end.value);
    }
    return done.find(({ kind }) => kind === 'refused') ?? done.find(({ kind }) => kind !== 'delivered') ?? DELIVERED;
  }

  private async put(
    pending: PendingResult,
    named: NamedSink,
    result: SteadyResult,
    shown: BatchWindow,
  ): Promise<Delivered> {
    const { definition, counters, parts, over } = this.term;
    const { open } = pending;
    // The same view for all tries: a sink may use it as a key for what it has written.
    const signal = definition.retry.sinkTimeout === undefined ? undefined : new RenewedSignal(this.term);
    const window = shown.view(signal);
    let failures = 0;
    let blocked: BlockedSink | undefined;
    try {
      for (;;) {
        if (!(await this.term.isSure())) return VOID;
        if (failures > 0 && (open.givenUp || pending.isRefused)) return GIVEN_UP;
        if (failures > 0 && open.skips?.has(named.name)) {
          this.reportSkip(named.name, window);
          return DELIVERED;
        }
        try {
          await this.tryOnce(named, result.value, window, signal);
          return DELIVERED;
        } catch (error) {
          failures += 1;
          counters.sinkFailures += 1;
          const isFinal = isRefused(error);
          counters.failed(parts.clock.now(), error, ErrorCode.SinkFailed);
          if (isFinal && definition.onRefused === 'deadLetter') {
            pending.isRefused = true;
            pending.stop?.abort();
            return { kind: 'refused', error };
          }
          blocked ??= this.blockedSinks.add(open.record.id, named.name, parts.clock.now());
          countFailure(blocked, error);
          if (failures === 1) {
            this.report(named.name, window, error, isFinal);
            await this.note(pending, named.name);
          }
          if (open.skips?.has(named.name)) continue;
          const wait = backoff(definition.retry, failures);
          pending.stop ??= new AbortController();
          open.skips ??= new SinkSkips();
          const stop = AbortSignal.any([stopSignal(open, over), pending.stop.signal, open.skips.changed]);
          await this.pauses.pause(wait, stop);
        }
      }
    } finally {
      signal?.end();
      if (blocked) this.blockedSinks.remove(blocked);
      pending.left -= 1;
      this.pauses.delivered(pending.left);
    }
  }

  private async tryOnce(
    { name, sink }: NamedSink,
    result: unknown,
    window: BatchWindow,
    signal: RenewedSignal | undefined,
  ): Promise<void> {
    const { definition, calls } = this.term;
    const { sinkTimeout } = definition.retry;
    signal?.renew();
    const call = calls.begin(window.id, name);
    const putting = asOwnCall(this.term.caller, async () => sink.put(result, window));
    if (sinkTimeout !== undefined && signal) {
      const error = () =>
        new MinibatchError(
          ErrorCode.SinkTimeout,
          `${definition.label}: sink ${name} did not settle within ${sinkTimeout} ms (retry.sinkTimeout)`,
        );
      const abort = (reason: unknown) => signal.abort(reason);
      return limited(this.term, call, putting, { most: sinkTimeout, error, abort });
    }
    try {
      await putting;
    } finally {
      calls.end(call);
    }
  }

  /** Stored, because only a window with this on record can be skipped, from any process. */
  private async note(pending: PendingResult, sink: string): Promise<void> {
    const { open } = pending;
    const { parts, lease } = this.term;
    const known = open.record.blockedSinks ?? [];
    if (known.includes(sink)) return;
    open.record = { ...open.record, blockedSinks: [...known, sink] };
    pending.noted = pending.noted.then(() =>
      this.term.persist('store which sink did not take a result', () => parts.store.reschedule(lease, open.record)),
    );
    await pending.noted;
  }

  private reportSkip(sink: string, { id }: BatchWindow): void {
    const { definition, parts, counters } = this.term;
    counters.skippedSinks += 1;
    parts.log.warn(`${definition.label}: window ${id} skips sink ${sink}, which did not take its result (stream.skip)`);
  }

  private report(sink: string, { id }: BatchWindow, error: unknown, isFinal: boolean): void {
    const { definition, parts } = this.term;
    if (isFinal) {
      parts.log.error(
        `${definition.label}: sink ${sink} refuses the result of window ${id} permanently: ${messageOf(error)}. The window ` +
          "is retried regardless. Fix the handler or the sink, skip this sink with stream.skip(), give the window up with stream.giveUp(), or set onRefused: 'deadLetter'",
      );
      return;
    }
    parts.log.warn(
      `${definition.label}: sink ${sink} did not take the result of window ${id}, retrying until it does: ` +
        `${messageOf(error)} [${ErrorCode.SinkFailed}]`,
    );
  }
}
