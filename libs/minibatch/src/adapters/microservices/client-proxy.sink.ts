import { isA } from '../../errors/error-text.js';
import { bareMessageOf, ErrorCode, MinibatchError, messageOf, ResultRefused } from '../../errors/minibatch.error.js';
import type { Sink } from '../../sinks/sink.interface.js';
import type { Window } from '../../windows/window.js';
import { type ClientProxySinkOptions, type ResolvedSending, resolveSending } from './client-proxy-sink.options.js';
import type { FailedResult } from '../failed-result.js';
import { FailureReason } from '../failure-reason.js';
import { type Cancel, deliver } from './deliver.js';
import { inParallel } from './in-parallel.js';

/**
 * Sends results to another Nest application by any transport that has patterns: TCP, Redis, RabbitMQ, Kafka, MQTT, NATS, or one of
 * your own. A result of `undefined` sends nothing.
 *
 * With `mode: 'send'` a result is safe when the other side's handler has replied, which is an acknowledgement from end to end.
 * With `mode: 'emit'` it is safe when the transport has taken it, which by TCP, NATS, Redis and MQTT with QoS 0 is no
 * promise that anybody receives it.
 *
 * At least once: what failed is sent again until it succeeds, and after a crash what was sent may be sent again. The window's id is the
 * same then: give it along by `map`, and the other side can tell. With `each`, the elements that succeeded are not sent again
 * while the result is kept in memory.
 *
 * @typeParam R one result; a handler returns it, or with `each` also an array of it
 * @example
 * ```ts
 * @Injectable()
 * export class Reports extends ClientProxySink<Report> {
 *   constructor(@Inject('REPORTS') client: ClientProxy) {
 *     super({ client, pattern: 'flights.report', mode: 'send', map: (report, window) => ({ id: window.id, ...report }) });
 *   }
 * }
 * ```
 */
export class ClientProxySink<R = unknown> implements Sink<R | readonly R[]> {
  private readonly sending: ResolvedSending;
  /** Elements that were delivered, of results of which others failed. */
  private readonly delivered = new WeakMap<
    readonly unknown[],
    { readonly window: string; readonly indexes: Set<number> }
  >();

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: ClientProxySinkOptions<R>) {
    this.sending = resolveSending(new.target.name, options);
    if (this.sending.mode === 'send') awaitReplies(this.sending);
  }

  /**
   * @throws MinibatchError `SinkFailed` if a message was not taken, was replied to with an error, or took longer than `timeout`; with
   *   `each`, `details.failed` lists them ({@link FailedResult})
   * @throws ResultRefused if `map` threw, or made what cannot be sent
   */
  async put(result: R | readonly R[], window: Window): Promise<void> {
    const { signal } = window;
    if (signal.aborted) throw this.notOurs(window);
    const inFlight = new Set<Cancel>();
    // One for all elements.
    const abort = () => {
      for (const cancel of inFlight) cancel();
    };
    signal.addEventListener('abort', abort, { once: true });
    try {
      if (this.sending.each && Array.isArray(result)) await this.deliverEach(result, window, inFlight);
      else await this.deliver(result, window, 0, inFlight);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  private async deliverEach(list: readonly unknown[], window: Window, inFlight: Set<Cancel>): Promise<void> {
    const indexes = this.deliveredOf(list, window);
    const left = [...list.keys()].filter((index) => !indexes.has(index));
    const failures = await inParallel(left, this.sending.concurrency, window.signal, async (index) => {
      await this.deliver(list[index], window, index, inFlight);
      indexes.add(index);
    });
    const [first] = failures;
    if (first === undefined) {
      this.delivered.delete(list);
      return;
    }
    const failed = failures
      .map(({ item: index, error }): FailedResult => ({ index, code: undefined, message: bareMessageOf(error) }))
      .toSorted((one, other) => one.index - other.index);
    const text = `${this.sending.where}: ${failed.length} of ${list.length} results of window ${window.id} were not delivered; result ${failed[0]?.index}: ${failed[0]?.message}`;
    const details = { reason: FailureReason.NotWritten, window: window.id, failed, written: indexes.size };
    const cause = first.error;
    if (failures.every(({ error }) => isA(error, ResultRefused))) throw new ResultRefused(text, { cause, details });
    throw new MinibatchError(ErrorCode.SinkFailed, text, { cause, details });
  }

  private async deliver(result: unknown, window: Window, index: number, inFlight: Set<Cancel>): Promise<void> {
    if (result === undefined) return;
    const data = this.mapped(result, window, index);
    if (data !== undefined) await deliver(this.sending, data, window, inFlight);
  }

  private mapped(result: unknown, window: Window, index: number): unknown {
    try {
      return this.sending.map(result, window, index);
    } catch (cause) {
      const { where } = this.sending;
      throw new ResultRefused(`${where}: map threw for message ${index} of window ${window.id}: ${messageOf(cause)}`, {
        cause,
        details: { reason: FailureReason.Unencodable, window: window.id, index },
      });
    }
  }

  private notOurs(window: Window): MinibatchError {
    const message = `${this.sending.where}: window ${window.id} is no longer held by this process: nothing of it was sent`;
    return new MinibatchError(ErrorCode.SinkFailed, message, {
      details: { reason: FailureReason.Aborted, window: window.id },
    });
  }

  /** A handler that ran again returned another list; one that returns the same list for another window starts over. */
  private deliveredOf(list: readonly unknown[], window: Window): Set<number> {
    const known = this.delivered.get(list);
    if (known?.window === window.id) return known.indexes;
    const indexes = new Set<number>();
    this.delivered.set(list, { window: window.id, indexes });
    return indexes;
  }
}

/** Kafka's client has to know which replies it will get before it connects. */
function awaitReplies({ client, pattern }: ResolvedSending): void {
  const { subscribeToResponseOf } = client as { subscribeToResponseOf?: (pattern: unknown) => void };
  if (typeof subscribeToResponseOf === 'function') subscribeToResponseOf.call(client, pattern);
}
