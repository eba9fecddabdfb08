import { ErrorCode, messageOf, MinibatchError } from '../errors/minibatch.error.js';
import { isRefused } from '../errors/refusal.js';
import { backoff } from '../common/backoff.js';
import { delay } from '../common/clock.js';
import { asOwnCall } from '../common/own-calls.js';
import type { BatchWindow } from './batch-window.js';
import { BlockedSinks, countFailure } from './blocked-sinks.js';
import type { BlockedSink, NamedSink } from './engine.interface.js';
import { type OpenWindow, stopSignal } from './open-window.js';
import { SinkSkips } from './sink-skips.js';
import { RenewedSignal, type Tenure } from './tenure.js';
import { limited } from './time-limit.js';

/** What became of a result. */
export type Delivered =
  | { readonly kind: 'delivered' }
  /** An operator gave its window up, or another sink refused it. */
  | { readonly kind: 'given up' }
  /** The tenure is over. */
  | { readonly kind: 'void' }
  /** A sink can never take it, and its messages are to be given up. */
  | { readonly kind: 'refused'; readonly error: unknown };

export const DELIVERED: Delivered = { kind: 'delivered' };
const GIVEN_UP: Delivered = { kind: 'given up' };
const VOID: Delivered = { kind: 'void' };
const NOTED = Promise.resolve();

/** A result on its way to the sinks of the consumer. */
interface Shipment {
  readonly open: OpenWindow;
  readonly result: unknown;
  /** A sink has refused the result: what the others failed to take is not tried again. */
  isRefused: boolean;
  /** Ends the waits of the others then; made by the first of them. */
  stop: AbortController | undefined;
  /** The last time that its failures were stored: one after the other, so that the latest stays. */
  noted: Promise<void>;
}

/** Hands results to sinks. A sink that fails is tried again until it takes the result: the messages are not to blame. */
export class Delivery {
  /** Sinks that did not take their result. */
  private readonly blockedSinks = new BlockedSinks();

  constructor(private readonly tenure: Tenure) {}

  get blocked(): boolean {
    return this.blockedSinks.size > 0;
  }

  get blockedBy(): readonly BlockedSink[] {
    return this.blockedSinks.named;
  }

  async deliver(open: OpenWindow, result: unknown, window: BatchWindow): Promise<Delivered> {
    const { definition, parts } = this.tenure;
    if (definition.sinks.length === 0) return DELIVERED;
    const shipment: Shipment = { open, result, isRefused: false, stop: undefined, noted: NOTED };
    const puts = definition.sinks.map((sink) => parts.activity.track(() => this.put(shipment, sink, window)));
    // Each of them: the worker is not free as long as one is under way.
    const ends = await parts.activity.aside(Promise.allSettled(puts));
    const done: Delivered[] = [];
    for (const end of ends) {
      if (end.status === 'rejected') throw end.reason;
      done.push(end.value);
    }
    return done.find(({ kind }) => kind === 'refused') ?? done.find(({ kind }) => kind !== 'delivered') ?? DELIVERED;
  }

  private async put(shipment: Shipment, named: NamedSink, shown: BatchWindow): Promise<Delivered> {
    const { definition, counters, parts, over } = this.tenure;
    const { open } = shipment;
    // One view for all tries: a sink may remember by it what it has written.
    const signal = definition.retry.sinkTimeout === undefined ? undefined : new RenewedSignal(this.tenure);
    const window = shown.view(signal);
    let failures = 0;
    let blocked: BlockedSink | undefined;
    try {
      for (;;) {
        if (!(await this.tenure.isSure())) return VOID;
        if (failures > 0 && (open.givenUp || shipment.isRefused)) return GIVEN_UP;
        if (failures > 0 && open.skips?.has(named.name)) {
          this.reportSkip(named.name, window);
          return DELIVERED;
        }
        try {
          await this.tryOnce(named, shipment.result, window, signal);
          return DELIVERED;
        } catch (error) {
          failures += 1;
          counters.sinkFailures += 1;
          const isFinal = isRefused(error);
          counters.failed(parts.clock.now(), error, ErrorCode.SinkFailed);
          if (isFinal && definition.onRefused === 'deadLetter') {
            shipment.isRefused = true;
            shipment.stop?.abort();
            return { kind: 'refused', error };
          }
          blocked ??= this.blockedSinks.add(open.record.id, named.name, parts.clock.now());
          countFailure(blocked, error);
          if (failures === 1) {
            this.report(named.name, window, error, isFinal);
            await this.note(shipment, named.name);
          }
          if (open.skips?.has(named.name)) continue;
          const wait = backoff(definition.retry, failures);
          shipment.stop ??= new AbortController();
          open.skips ??= new SinkSkips();
          const stop = AbortSignal.any([stopSignal(open, over.signal), shipment.stop.signal, open.skips.changed]);
          await parts.activity.aside(delay(parts.clock, wait, stop));
        }
      }
    } finally {
      signal?.end();
      if (blocked) this.blockedSinks.remove(blocked);
    }
  }

  private async tryOnce(
    { name, sink }: NamedSink,
    result: unknown,
    window: BatchWindow,
    signal: RenewedSignal | undefined,
  ): Promise<void> {
    const { definition, calls } = this.tenure;
    const { sinkTimeout } = definition.retry;
    signal?.renew();
    const call = calls.begin(window.id, name);
    const putting = asOwnCall(this.tenure.caller, async () => sink.put(result, window));
    if (sinkTimeout !== undefined && signal) {
      const error = () =>
        new MinibatchError(
          ErrorCode.SinkTimeout,
          `${definition.label}: sink ${name} did not settle within ${sinkTimeout} ms (retry.sinkTimeout)`,
        );
      const abort = (reason: unknown) => signal.abort(reason);
      return limited(this.tenure, call, putting, { most: sinkTimeout, error, abort });
    }
    try {
      await putting;
    } finally {
      calls.end(call);
    }
  }

  /** Only a window that has this on record can be skipped, from any process. */
  private async note(shipment: Shipment, sink: string): Promise<void> {
    const { open } = shipment;
    const { parts, lease } = this.tenure;
    const known = open.record.blockedSinks ?? [];
    if (known.includes(sink)) return;
    open.record = { ...open.record, blockedSinks: [...known, sink] };
    shipment.noted = shipment.noted.then(() =>
      this.tenure.persist('store which sink did not take a result', () => parts.store.reschedule(lease, open.record)),
    );
    await shipment.noted;
  }

  private reportSkip(sink: string, { id }: BatchWindow): void {
    const { definition, parts, counters } = this.tenure;
    counters.skippedSinks += 1;
    parts.log.warn(
      `${definition.label}: window ${id} goes on without sink ${sink}, which did not take its result (stream.skip)`,
    );
  }

  private report(sink: string, { id }: BatchWindow, error: unknown, isFinal: boolean): void {
    const { definition, parts } = this.tenure;
    if (isFinal) {
      parts.log.error(
        `${definition.label}: sink ${sink} refuses the result of window ${id} and will not take it: ${messageOf(error)}. The window ` +
          "is tried again all the same. Mend the handler or the sink, go on without this sink by stream.skip(), give the window up by stream.giveUp(), or set onRefused: 'deadLetter'",
      );
      return;
    }
    parts.log.warn(
      `${definition.label}: sink ${sink} did not take the result of window ${id}, trying again until it does: ` +
        `${messageOf(error)} [${ErrorCode.SinkFailed}]`,
    );
  }
}
