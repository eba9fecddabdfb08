import { orAborted } from '../../common/abort.js';
import type { OnApplicationShutdown } from '@nestjs/common';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { Sink } from '../../sinks/sink.interface.js';
import type { Window } from '../../windows/window.js';
import { MqttConnection } from './mqtt-connection.js';
import { type MqttSinkOptions, type ResolvedSink, resolveSink } from './mqtt-sink.options.js';
import { type Publication, publicationsOf } from './publications.js';
import { Publisher } from './publisher.js';

/** How far the result of a window has got. */
interface Progress {
  readonly result: unknown;
  /** Places in the result that the broker has acknowledged. */
  readonly acknowledged: Set<number>;
}

/**
 * Publishes results to an MQTT broker. Needs the package `mqtt`.
 *
 * An array gives one message for each element (an empty one and undefined elements give none). `put` resolves when the broker has
 * acknowledged all of them (QoS 1). In MQTT 5 each has its id as a user property, see {@link MqttSinkOptions.idProperty}.
 *
 * It connects with the first result, and again with the next one or the next try when the connection broke. A result that is tried
 * again sends only what was not acknowledged; after a crash it is sent as a whole, so a message may come twice.
 *
 * Make it a provider: Nest then closes the connection at shutdown. Who hands an instance to `sink` calls `close()`.
 *
 * MQTT 3.1.1 acknowledges also what the broker's access rules drop; only MQTT 5 says so.
 *
 * @typeParam R one result; a handler returns it or an array of it
 * @example
 * ```ts
 * @Injectable()
 * export class Alarms extends MqttSink<Alarm> {
 *   constructor(config: ConfigService) {
 *     super({ url: config.getOrThrow('MQTT_URL'), topic: (alarm) => `alarms/${alarm.device}` });
 *   }
 * }
 * ```
 */
export class MqttSink<R = unknown> implements Sink<R | readonly R[]>, OnApplicationShutdown {
  private readonly sink: ResolvedSink;
  private publisher: Promise<Publisher> | undefined;
  private readonly closing = new AbortController();
  /** Of windows whose result did not get through at once. */
  private readonly progress = new WeakMap<Window, Progress>();

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: MqttSinkOptions<R>) {
    this.sink = resolveSink(new.target.name, options);
  }

  /**
   * @throws MinibatchError `MissingPackage`; `SinkFailed` with `details.reason`: `UNREACHABLE`, `REFUSED` (credentials, client id;
   *   `details.reasonCode` is MQTT's), `LOST`, `NOT_PUBLISHED` (`details.failed`: {@link FailedPublish}), `ABORTED` (`window.signal`); `MessageTooLarge` for
   *   what is larger than the broker takes; `ShuttingDown` after `close()`
   * @throws ResultRefused with `details.reason`: `UNPUBLISHABLE` (`topic` or `payload` threw or gave nonsense), or `NOT_PUBLISHED` if
   *   the broker says that topic or payload are at fault
   */
  async put(result: R | readonly R[], window: Window): Promise<void> {
    const publications = publicationsOf(this.sink, result, window);
    if (publications.length === 0) return;
    const { acknowledged } = this.progressOf(result, window);
    const publisher = await this.connected(window.signal);
    const open = publications.filter(({ index }) => !acknowledged.has(index));
    await publisher.publish(open, window, ({ index }: Publication) => acknowledged.add(index));
    this.progress.delete(window);
  }

  /** Ends the connection; what is under way fails. Nest calls it, after the last window. */
  async close(): Promise<void> {
    this.closing.abort();
    const publisher = await this.publisher?.catch(() => undefined);
    await publisher?.connection.close();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.close();
  }

  private progressOf(result: unknown, window: Window): Progress {
    const known = this.progress.get(window);
    if (known && known.result === result) return known;
    const progress: Progress = { result, acknowledged: new Set() };
    this.progress.set(window, progress);
    return progress;
  }

  /** The connection there is, or a new one. One window that gives up waiting does not take it from the others. */
  private async connected(signal: AbortSignal): Promise<Publisher> {
    const { where } = this.sink;
    if (this.closing.signal.aborted) {
      throw new MinibatchError(ErrorCode.ShuttingDown, `${where}: the sink is closed`, { details: { sink: where } });
    }
    this.publisher ??= this.connect();
    return await orAborted(this.publisher, signal, () => {
      const message = `${where}: connecting was given up: the window's signal aborted`;
      return new MinibatchError(ErrorCode.SinkFailed, message, { details: { reason: 'ABORTED' } });
    });
  }

  private connect(): Promise<Publisher> {
    const connecting = MqttConnection.open(this.sink.connection, this.closing.signal, () => undefined).then(
      ({ connection }) => {
        connection.onEnd(forget);
        return new Publisher(connection, this.sink);
      },
    );
    const forget = () => {
      if (this.publisher === connecting) this.publisher = undefined;
    };
    connecting.catch(forget);
    return connecting;
  }
}
