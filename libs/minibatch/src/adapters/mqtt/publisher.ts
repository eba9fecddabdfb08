import type { IClientPublishOptions } from 'mqtt';
import { ErrorCode, MinibatchError, messageOf, ResultRefused } from '../../errors/minibatch.error.js';
import { reasonCodeOf } from './connection-errors.js';
import type { MqttConnection } from './mqtt-connection.js';
import type { ResolvedSink } from './mqtt-sink.options.js';
import type { Publication } from './publications.js';

/** A message that the broker did not take; in `details.failed`. */
export interface FailedPublish {
  /** Its place in the result. */
  readonly index: number;
  readonly topic: string;
  /** MQTT 5; undefined where there was none. */
  readonly reasonCode: number | undefined;
  readonly message: string;
}

/** MQTT 5: the topic name is invalid, the packet too large, the payload not of the format it says. All others may pass. */
const REFUSALS: ReadonlySet<number> = new Set([0x90, 0x95, 0x99]);

/** Properties of a publish other than the user's, and the length of the packet, as far as they add to its size. */
const PACKET_OVERHEAD = 32;

/** Publishes through one connection, with at most so many messages on their way as both sides allow. */
export class Publisher {
  private readonly most: number;
  private inFlight = 0;
  private readonly queue: (() => void)[] = [];

  constructor(
    readonly connection: MqttConnection,
    private readonly sink: ResolvedSink,
  ) {
    this.most = Math.min(sink.maxInFlight, connection.client.serverProperties?.receiveMaximum ?? 65_535);
  }

  /**
   * Resolves when the broker has acknowledged all; `acknowledged` is called for each. Those that can't be sent don't keep
   * the others from it.
   *
   * @throws MinibatchError `SinkFailed`, `MessageTooLarge`, `ResultRefused` with `details.failed` ({@link FailedPublish})
   */
  async publish(
    publications: readonly Publication[],
    signal: AbortSignal,
    acknowledged: (publication: Publication) => void,
  ): Promise<void> {
    if (publications.length === 0) return;
    const failed: FailedPublish[] = [];
    const tooLarge = new Set<FailedPublish>();
    let open = 0;
    const sent = new Promise<void>((resolve) => {
      const settle = () => {
        open -= 1;
        if (open === 0) resolve();
      };
      open = publications.length;
      for (const publication of publications) {
        if (this.isTooLarge(publication)) {
          const reason = `it is larger than the ${this.largest} bytes that the broker takes`;
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
    if (failed.length > 0) throw notPublished(this.sink, tooLarge, failed, publications.length);
  }

  private get largest(): number | undefined {
    return this.connection.client.serverProperties?.maximumPacketSize;
  }

  /** A broker that gets one ends the connection, for all of them. */
  private isTooLarge({ topic, payload, userProperties }: Publication): boolean {
    const { largest } = this;
    if (largest === undefined) return false;
    const properties = Object.entries(userProperties ?? {}).flat();
    const texts = [topic, ...properties].reduce((sum, text) => sum + Buffer.byteLength(text) + 3, PACKET_OVERHEAD);
    return texts + Buffer.byteLength(payload) > largest;
  }

  private send(publication: Publication, signal: AbortSignal, done: (error?: Error) => void): void {
    this.queue.push(() => {
      // Else nobody waits for it any more.
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

function failure({ index, topic }: Publication, reasonCode: number | undefined, message: string): FailedPublish {
  return { index, topic, reasonCode, message };
}

function notPublished(
  sink: ResolvedSink,
  tooLarge: ReadonlySet<FailedPublish>,
  failed: readonly FailedPublish[],
  all: number,
): MinibatchError {
  const [first] = failed;
  const because = `element ${first?.index}, to '${first?.topic}': ${first?.message}`;
  const text = `${sink.where}: ${failed.length} of ${all} messages were not published; ${because}. The others are published`;
  const details = { reason: 'NOT_PUBLISHED', failed };
  if (tooLarge.size === failed.length) return new MinibatchError(ErrorCode.MessageTooLarge, text, { details });
  const isRefused = failed.every((each) => tooLarge.has(each) || REFUSALS.has(each.reasonCode ?? 0));
  if (isRefused) return new ResultRefused(text, { details });
  return new MinibatchError(ErrorCode.SinkFailed, `${text}, and only these are tried again`, { details });
}
