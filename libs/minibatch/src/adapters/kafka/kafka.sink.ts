import { batchesOf } from '../../common/batches.js';
import { orAborted } from '../../common/abort.js';
import type { OnApplicationShutdown } from '@nestjs/common';
import { ErrorCode, messageOf, MinibatchError, ResultRefused } from '../../errors/minibatch.error.js';
import { SystemClock } from '../../common/clock.js';
import type { Sink } from '../../sinks/sink.interface.js';
import type { Window } from '../../windows/window.js';
import type { FailedResult } from '../failed-result.js';
import { FailureReason } from '../failure-reason.js';
import { kafkaError, typeOf } from './kafka-errors.js';
import { type KafkaSinkOptions, type ResolvedKafkaSink, resolveKafkaSink } from './kafka-sink.options.js';
import { SharedProducer } from './shared-producer.js';
import { type OutgoingRecord, recordsOf } from './result-records.js';

/** What became of a result so far, so that the next try sends only the rest. */
interface Progress {
  readonly result: unknown;
  readonly records: readonly OutgoingRecord[];
  readonly acknowledged: Set<OutgoingRecord>;
}

/**
 * Writes results to a topic of Kafka: one record each, or one for each element of an array (an empty one and undefined elements
 * give none). Resolves when Kafka has acknowledged all of them. Needs the package `kafkajs`.
 *
 * Values are JSON; null is a tombstone, bytes are sent as they are. Each record has the header `minibatch-id`: the window's id, and if it
 * is of an array, its position, as `orders/default/0/1/17:3`. A result that is sent again, after a crash or because Kafka's answer was
 * lost, has the same: by it a reader of the topic recognises what it already has.
 *
 * Nest closes the connection at shutdown if the sink is a provider, and `disconnect()` of a program without Nest; otherwise call `close()`.
 *
 * @typeParam R one result; a handler returns it or an array of it
 * @example
 * ```ts
 * @Injectable()
 * export class Reports extends KafkaSink<Report> {
 *   constructor(config: ConfigService) {
 *     super({ kafka: { brokers: config.get('BROKERS').split(',') }, topic: 'reports', key: (report) => report.origin });
 *   }
 * }
 * ```
 */
export class KafkaSink<R = unknown> implements Sink<R | readonly R[]>, OnApplicationShutdown {
  private readonly writing: ResolvedKafkaSink;
  private readonly producers: SharedProducer;
  private readonly progress = new WeakMap<Window, Progress>();
  private isShutDown = false;

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: KafkaSinkOptions<R>) {
    this.writing = resolveKafkaSink(new.target.name, options);
    this.producers = new SharedProducer(this.writing, new SystemClock());
  }

  /**
   * @throws MinibatchError `SinkFailed` if Kafka cannot be reached or does not take the records for now; `ShuttingDown` after Nest's shutdown
   * @throws ResultRefused if `key`, `headers` or `value` threw or gave anything but bytes: nothing is written then; or if records are too
   *   large for the topic, with `details.failed` ({@link FailedResult}): then all others are written, and the next try leaves them out
   */
  async put(result: R | readonly R[], window: Window): Promise<void> {
    if (this.isShutDown) {
      throw new MinibatchError(ErrorCode.ShuttingDown, `${this.writing.where}: the application was shut down`);
    }
    const { records, acknowledged } = this.progressOf(result, window);
    const failed: FailedResult[] = [];
    const rest = records.filter((record) => !acknowledged.has(record));
    const limits = { items: Infinity, bytes: this.writing.batchBytes };
    for (const { items } of batchesOf(rest, limits, ({ bytes }) => bytes)) {
      await this.send(items, window, acknowledged, failed);
    }
    if (failed.length > 0) throw tooLarge(this.writing, window, failed, records.length);
    this.progress.delete(window);
  }

  /** Closes the connection. A `put` that comes later opens a new one. */
  close(): Promise<void> {
    return this.producers.close();
  }

  onApplicationShutdown(): Promise<void> {
    this.isShutDown = true;
    return this.close();
  }

  private progressOf(result: unknown, window: Window): Progress {
    const before = this.progress.get(window);
    if (before !== undefined && before.result === result) return before;
    const progress = { result, records: recordsOf(this.writing, result, window), acknowledged: new Set<never>() };
    this.progress.set(window, progress);
    return progress;
  }

  /** A batch that is too large though its records are not, because the topic's limit is a lower one, goes in halves. */
  private async send(
    part: readonly OutgoingRecord[],
    window: Window,
    acknowledged: Set<OutgoingRecord>,
    failed: FailedResult[],
  ): Promise<void> {
    const { where, topic, acks, compression } = this.writing;
    const messages = part.map(({ message }) => message);
    try {
      const sent = this.producers.use((producer) => producer.send({ topic, messages, acks, compression }), isTooLarge);
      const given = () => new Error('the window was aborted', { cause: window.signal.reason });
      await orAborted(sent, window.signal, given);
    } catch (error) {
      if (!isTooLarge(error)) {
        const doing = `writing ${part.length} results of window ${window.id} to the topic '${topic}' failed`;
        throw kafkaError(where, ErrorCode.SinkFailed, doing, error);
      }
      const [only, ...others] = part;
      if (only !== undefined && others.length === 0) {
        const message = `about ${only.bytes} bytes: ${messageOf(error)}`;
        failed.push({ index: only.index ?? 0, code: typeOf(error), message });
        return;
      }
      const middle = Math.ceil(part.length / 2);
      await this.send(part.slice(0, middle), window, acknowledged, failed);
      await this.send(part.slice(middle), window, acknowledged, failed);
      return;
    }
    for (const record of part) acknowledged.add(record);
  }
}

function isTooLarge(error: unknown): boolean {
  const type = typeOf(error);
  return type === 'MESSAGE_TOO_LARGE' || type === 'RECORD_LIST_TOO_LARGE';
}

function tooLarge(
  { where, topic }: ResolvedKafkaSink,
  window: Window,
  failed: readonly FailedResult[],
  total: number,
): ResultRefused {
  const names = failed.slice(0, 3).map(({ index, message }) => `result ${index} (${message})`);
  return new ResultRefused(
    `${where}: ${failed.length} of ${total} results of window ${window.id} are too large for the topic '${topic}': ${names.join(', ')}${failed.length > names.length ? ', …' : ''}. Raise the topic's max.message.bytes, use compression, or return smaller results; the others are written`,
    { details: { reason: FailureReason.NotWritten, window: window.id, topic, failed, written: total - failed.length } },
  );
}
