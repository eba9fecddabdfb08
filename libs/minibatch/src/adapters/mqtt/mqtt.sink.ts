import { orAborted } from '../../common/abort.js';
import type { OnApplicationShutdown } from '@nestjs/common';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { Sink } from '../../sinks/sink.interface.js';
import type { Window } from '../../windows/window.js';
import { FailureReason } from '../failure-reason.js';
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
 * It connects with the first result, and again with the next one or the next retry when the connection broke. A retry sends only what was
 * not acknowledged; after a crash the whole result is sent again, so a message may arrive twice.
 *
 * Nest closes the connection at shutdown if the sink is a provider, and `disconnect()` of a program without Nest; otherwise call `close()`.
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
  private closing = new AbortController();
  private isShutDown = false;
  /** Of windows whose result did not get through at once. */
  private readonly progress = new WeakMap<Window, Progress>();

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: MqttSinkOptions<R>) {
    this.sink = resolveSink(new.target.name, options);
  }

  /**
   * @throws MinibatchError `MissingPackage`; `SinkFailed` with `details.reason`: `UNREACHABLE`, `UNAUTHORIZED` or `REFUSED`
   *   (`details.reasonCode` is MQTT's), `LOST`, `NOT_WRITTEN` (`details.failed`: {@link FailedResult}), `ABORTED` (`window.signal`);
   *   `MessageTooLarge` for what is larger than the broker accepts; `ShuttingDown` after Nest's shutdown
   * @throws ResultRefused with `details.reason`: `UNENCODABLE` (`topic` or `payload` threw or returned nonsense), or `NOT_WRITTEN` if
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

  /** Closes the connection; what is in flight fails. A `put` that comes later opens a new one. */
  async close(): Promise<void> {
    const { publisher: open, closing } = this;
    this.publisher = undefined;
    this.closing = new AbortController();
    closing.abort();
    const publisher = await open?.catch(() => undefined);
    await publisher?.connection.close();
  }

  async onApplicationShutdown(): Promise<void> {
    this.isShutDown = true;
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
    if (this.isShutDown) {
      throw new MinibatchError(ErrorCode.ShuttingDown, `${where}: the application was shut down`);
    }
    this.publisher ??= this.connect();
    return await orAborted(this.publisher, signal, () => {
      const message = `${where}: connecting was cancelled: the window's signal aborted`;
      return new MinibatchError(ErrorCode.SinkFailed, message, { details: { reason: FailureReason.Aborted } });
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
