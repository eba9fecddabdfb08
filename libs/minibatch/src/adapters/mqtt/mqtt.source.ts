import { Logger } from '@nestjs/common';
import type { MqttClient } from 'mqtt';
import { unlessAborted } from '../../common/abort.js';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import type { Source, SourceTarget } from '../../sources/source.interface.js';
import { MessageAppender } from './message-appender.js';
import { MessageReceiver } from './message-receiver.js';
import { MqttConnection } from './mqtt-connection.js';
import { type MqttSourceOptions, type ResolvedSource, resolveSource } from './mqtt-source.options.js';
import { type MqttSourceCounters, Oddities } from './oddities.js';
import { subscribe, unsubscribe } from './subscriptions.js';

export type { MqttSourceCounters } from './oddities.js';

/** After the source is stopped a write that is under way is waited for so long; milliseconds. */
const STOP_WAIT = 500;

/** What a former start has subscribed under the client id. */
interface Position {
  readonly clientId: string;
  readonly topics: readonly string[];
}

/**
 * Feeds a stream with the messages of MQTT topics. Needs the package `mqtt`.
 *
 * A message is acknowledged (PUBACK) after it was appended, together with others that came meanwhile; the broker keeps the session
 * while the source is away. So with QoS 1 each message comes at least once: after a broken connection or a crash, those that
 * were appended and not yet acknowledged come again, and MQTT has no id by which a stream could tell; see
 * {@link MqttSourceOptions.dedupeId}.
 *
 * A message's headers are `topic`, `retain` and `dup` (`'true'` where they are), and in MQTT 5 the user properties, `contentType`,
 * `responseTopic` and `correlationData` (base64).
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
  private readonly oddities: Oddities;
  /** The topics have been subscribed by this object: a session that is still there has them. */
  private subscribed = false;

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: MqttSourceOptions<T>) {
    const where = new.target.name;
    this.source = resolveSource(where, options);
    this.oddities = new Oddities(new Logger(where));
  }

  /** What was not appended, or not as its format says. */
  get counters(): MqttSourceCounters {
    return { ...this.oddities.counters };
  }

  /**
   * @throws MinibatchError `MissingPackage`; `SourceFailed` with `details.reason`: `UNREACHABLE`, `REFUSED` (credentials, client id;
   *   `details.reasonCode` is MQTT's), `LOST`, `SUBSCRIPTION_REFUSED` (`details.topics`), `QOS_NOT_GRANTED`, `UNSTORABLE`
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
    const { source } = this;
    const before = positionOf(await target.position());
    const writer = new MessageAppender(target, source, this.oddities);
    const prepare = (client: MqttClient) => new MessageReceiver(client, writer, source);
    const { connection, connack, prepared: receiver } = await MqttConnection.open(source.connection, signal, prepare);
    try {
      const work = this.subscribe(connection.client, target, connack.sessionPresent ? before : undefined);
      await Promise.race([connection.during(work, signal, 'subscribing'), receiver.failed]);
      // Until it fails, the connection breaks, or the signal aborts.
      await connection.during(receiver.failed, signal, 'reading');
    } finally {
      // What comes with the next connection must not overtake what is being written now.
      // An append may wait for room for as long as consumers like.
      await unlessAborted(receiver.stop(), signal, { clock: SYSTEM_CLOCK, ms: STOP_WAIT });
      await connection.close();
    }
  }

  /** @param before what the session that is still there has */
  private async subscribe(client: MqttClient, target: SourceTarget, before: Position | undefined): Promise<void> {
    const { topics, clientId } = this.source;
    const stale = before?.clientId === clientId ? before.topics.filter((topic) => !topics.includes(topic)) : [];
    if (stale.length > 0) await unsubscribe(client, stale);
    // In MQTT 3.1.1 retained messages would come again.
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
