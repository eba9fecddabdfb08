import type { MqttClient } from 'mqtt';
import { unlessAborted } from '../../common/abort.js';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import type { Source, SourceTarget } from '../../sources/source.interface.js';
import { MessageProblems } from '../message-problems.js';
import { newCounters, type SourceCounters } from '../source-counters.js';
import { MessageAppender, nameOfMessage } from './message-appender.js';
import { MessageReceiver } from './message-receiver.js';
import { MqttConnection } from './mqtt-connection.js';
import { type MqttSourceOptions, type ResolvedSource, resolveSource } from './mqtt-source.options.js';
import { subscribe, unsubscribe } from './subscriptions.js';

/** What an append in flight gets after the source was stopped; milliseconds. */
const STOP_WAIT = 500;

/** What an earlier start subscribed under the client id. */
interface Position {
  readonly clientId: string;
  readonly topics: readonly string[];
}

/**
 * Feeds a stream with the messages of MQTT topics. Needs the package `mqtt`.
 *
 * A message is acknowledged (PUBACK) after it was appended, together with others that came meanwhile; the broker keeps the session
 * while the source is away. So with QoS 1 each message comes at least once: after a broken connection or a crash, those that
 * were appended and not yet acknowledged are redelivered, and MQTT has no id by which a stream could tell; see
 * {@link MqttSourceOptions.dedupeId}.
 *
 * A message's headers are `mqtt-topic`, `mqtt-retain` and `mqtt-dup` (`'true'` where they are set), and in MQTT 5 the user properties,
 * `mqtt-content-type`, `mqtt-response-topic` and `mqtt-correlation-data` (base64): see {@link MESSAGE_HEADERS}.
 *
 * When the connection breaks, or the broker refuses it or a topic, the source fails with a code that says why, and is started
 * again with backoff, as any source.
 *
 * @typeParam T the stream's messages
 * @example
 * ```ts
 * @StreamSource('readings')
 * export class SensorFeed extends MqttSource<Reading> {
 *   constructor(config: ConfigService) {
 *     super({ url: config.getOrThrow('MQTT_URL'), clientId: 'readings-1', topics: 'sensors/+/temperature' });
 *   }
 * }
 * ```
 */
export class MqttSource<T = unknown> implements Source<T> {
  private readonly source: ResolvedSource;
  private readonly counted = newCounters();
  /** The topics have been subscribed by this object: a session that is still there has them. */
  private subscribed = false;

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: MqttSourceOptions<T>) {
    this.source = resolveSource(new.target.name, options);
  }

  get counters(): SourceCounters {
    return { ...this.counted };
  }

  /**
   * @throws MinibatchError `MissingPackage`; `SourceFailed` with `details.reason`: `UNREACHABLE`, `UNAUTHORIZED` or `REFUSED`
   *   (`details.reasonCode` is MQTT's; `details.topics` where subscriptions are refused), `LOST`, `UNSTORABLE`
   */
  async stream(target: SourceTarget<T>, signal: AbortSignal): Promise<void> {
    try {
      await this.feed(target as SourceTarget, signal);
    } catch (error) {
      // What says only that it was stopped.
      if (!signal.aborted) throw error;
    }
  }

  private async feed(target: SourceTarget, signal: AbortSignal): Promise<void> {
    const { source, counted } = this;
    const { where, unstorable } = source;
    const { clock = SYSTEM_CLOCK, log } = target;
    const before = positionOf(await target.position());
    const problems = new MessageProblems({ where, unstorable, nameOf: nameOfMessage, counters: counted, log });
    const appender = new MessageAppender(target, source, problems, counted);
    const prepare = (client: MqttClient) => new MessageReceiver(client, appender, source);
    const {
      connection,
      sessionPresent,
      prepared: receiver,
    } = await MqttConnection.open(source.connection, signal, prepare, clock);
    try {
      const work = this.subscribe(connection.client, target, sessionPresent ? before : undefined);
      await Promise.race([connection.during(work, signal, 'subscribing'), receiver.failed]);
      // Until it fails, the connection breaks, or the signal aborts.
      await connection.during(receiver.failed, signal, 'reading');
    } finally {
      // What comes with the next connection must not overtake what is being written now.
      // An append may wait for room for as long as consumers like.
      await unlessAborted(receiver.stop(), signal, { clock, ms: STOP_WAIT });
      await connection.close();
    }
  }

  /** @param before what the session that is still there has */
  private async subscribe(client: MqttClient, target: SourceTarget, before: Position | undefined): Promise<void> {
    const { topics, clientId } = this.source;
    const stale = before?.clientId === clientId ? before.topics.filter((topic) => !topics.includes(topic)) : [];
    if (stale.length > 0) await unsubscribe(client, stale);
    // In MQTT 3.1.1 retained messages would be redelivered.
    if (!(before && this.subscribed)) await subscribe(client, this.source);
    this.subscribed = true;
    if (before && stale.length === 0 && topics.every((topic) => before.topics.includes(topic))) return;
    await target.appendMany([], { position: { clientId, topics } satisfies Position });
  }
}

function positionOf(stored: unknown): Position | undefined {
  if (typeof stored !== 'object' || stored === null) return undefined;
  const { clientId, topics } = stored as Partial<Position>;
  return typeof clientId === 'string' && Array.isArray(topics) ? { clientId, topics } : undefined;
}
