import type { IClientPublishOptions } from 'mqtt';
import { propertyOf } from '../../errors/error-text.js';
import type { Window } from '../../windows/window.js';
import { ErrorCode, MinibatchError, messageOf, ResultRefused } from '../../errors/minibatch.error.js';
import type { FailedResult } from '../failed-result.js';
import { FailureReason } from '../failure-reason.js';
import { reasonCodeOf } from './connection-errors.js';
import type { MqttConnection } from './mqtt-connection.js';
import type { ResolvedSink } from './mqtt-sink.options.js';
import type { Publication } from './publications.js';

/** MQTT 5: the topic name is invalid, the packet too large, the payload not of the format it says. All others may pass. */
const REFUSALS: ReadonlySet<number> = new Set([0x90, 0x95, 0x99]);

/** Properties of a publish other than the user's, and the length of the packet, as far as they add to its size. */
const PACKET_OVERHEAD = 32;

/** Publishes through one connection, with at most as many messages in flight as both sides allow. */
export class Publisher {
  private readonly most: number;
  private inFlight = 0;
  private readonly queue: (() => void)[] = [];

  constructor(
    readonly connection: MqttConnection,
    private readonly sink: ResolvedSink,
  ) {
    this.most = Math.min(sink.maxInFlight, this.limitOf('receiveMaximum') ?? 65_535);
  }

  /**
   * Resolves when the broker has acknowledged all; `acknowledged` is called for each. Those that cannot be sent do not
   * hold up the others.
   *
   * @throws MinibatchError `SinkFailed`, `MessageTooLarge`, `ResultRefused` with `details.failed` ({@link FailedResult})
   */
  async publish(
    publications: readonly Publication[],
    window: Pick<Window, 'id' | 'signal'>,
    acknowledged: (publication: Publication) => void,
  ): Promise<void> {
    if (publications.length === 0) return;
    const { signal } = window;
    const failed: FailedResult[] = [];
    const tooLarge = new Set<FailedResult>();
    let open = 0;
    const sent = new Promise<void>((resolve) => {
      const settle = () => {
        open -= 1;
        if (open === 0) resolve();
      };
      open = publications.length;
      for (const publication of publications) {
        if (this.isTooLarge(publication)) {
          const reason = `it is larger than the ${this.largest} bytes that the broker accepts`;
          const large = failure(publication, undefined, reason);
          tooLarge.add(large);
          failed.push(large);
          settle();
          continue;
        }
        this.send(publication, signal, (error) => {
          if (error) failed.push(failure(publication, reasonCodeOf(error), messageOf(error)));
          else acknowledged(publication);
          settle();
        });
      }
    });
    await this.connection.during(sent, signal, 'publishing');
    if (failed.length > 0) throw notPublished(this.sink, window, tooLarge, failed, publications.length);
  }

  private get largest(): number | undefined {
    return this.limitOf('maximumPacketSize');
  }

  /** A limit that the broker named in its CONNACK. */
  private limitOf(name: 'receiveMaximum' | 'maximumPacketSize'): number | undefined {
    const limit = propertyOf(this.connection.client.serverProperties, name);
    return typeof limit === 'number' && limit > 0 ? limit : undefined;
  }

  /** A broker that gets one ends the connection for all. */
  private isTooLarge({ topic, payload, userProperties }: Publication): boolean {
    const { largest } = this;
    if (largest === undefined) return false;
    const properties = Object.entries(userProperties ?? {}).flat();
    const texts = [topic, ...properties].reduce((sum, text) => sum + Buffer.byteLength(text) + 3, PACKET_OVERHEAD);
    return texts + Buffer.byteLength(payload) > largest;
  }

  private send(publication: Publication, signal: AbortSignal, done: (error?: Error) => void): void {
    this.queue.push(() => {
      // Otherwise nobody waits for it any more.
      if (!signal.aborted && !this.connection.failure) this.sendNow(publication, done);
    });
    this.sendQueued();
  }

  private sendQueued(): void {
    while (this.inFlight < this.most) {
      const send = this.queue.shift();
      if (send === undefined) return;
      send();
    }
  }

  private sendNow({ topic, payload, userProperties }: Publication, done: (error?: Error) => void): void {
    this.inFlight += 1;
    const { qos, retain } = this.sink;
    const options: IClientPublishOptions = { qos, retain, ...(userProperties && { properties: { userProperties } }) };
    this.connection.client.publish(topic, payload, options, (error) => {
      this.inFlight -= 1;
      done(error ?? undefined);
      this.sendQueued();
    });
  }
}

function failure({ index, topic }: Publication, code: number | undefined, message: string): FailedResult {
  return { index, code, message: `to '${topic}': ${message}` };
}

function notPublished(
  sink: ResolvedSink,
  window: Pick<Window, 'id'>,
  tooLarge: ReadonlySet<FailedResult>,
  failed: readonly FailedResult[],
  all: number,
): MinibatchError {
  const [first] = failed;
  const because = `result ${first?.index} ${first?.message}`;
  const text = `${sink.where}: ${failed.length} of ${all} results of window ${window.id} were not published; ${because}. The others are published`;
  const details = { reason: FailureReason.NotWritten, window: window.id, failed, written: all - failed.length };
  if (tooLarge.size === failed.length) return new MinibatchError(ErrorCode.MessageTooLarge, text, { details });
  const isRefused = failed.every((each) => tooLarge.has(each) || REFUSALS.has(Number(each.code ?? 0)));
  if (isRefused) return new ResultRefused(text, { details });
  return new MinibatchError(ErrorCode.SinkFailed, `${text}, and only these are retried`, { details });
}
