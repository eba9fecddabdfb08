import { setImmediate } from 'node:timers/promises';
import type { IPublishPacket, MqttClient } from 'mqtt';
import { acknowledge, LATER } from './acknowledge.js';
import type { MessageAppender } from './message-appender.js';
import type { MqttMessage } from './mqtt-message.js';
import type { ResolvedSource } from './mqtt-source.options.js';

interface Arrival {
  readonly message: MqttMessage;
  /** For the PUBACK; undefined without one. */
  readonly id: number | undefined;
  /** QoS 2, of an older subscription: mqtt.js sends the answers, when this is called. */
  readonly answer: (() => void) | undefined;
}

/**
 * Receives the messages of one connection, appends together those that arrived during the last append, and acknowledges them when they are
 * stored. While too much is in memory no further packet is read, and the broker waits.
 */
export class MessageReceiver {
  private waiting: Arrival[] = [];
  private count = 0;
  private bytes = 0;
  /** Lets mqtt.js read the next packet. */
  private resume: (() => void) | undefined;
  private appending: Promise<void> | undefined;
  private stopped = false;
  private topic = '';
  private fail: (error: unknown) => void = () => undefined;
  /** Rejects when messages could not be appended. They are not acknowledged, so the next connection gets them again. */
  readonly failed = new Promise<never>((_, reject) => (this.fail = reject));

  constructor(
    private readonly client: MqttClient,
    private readonly appender: MessageAppender,
    private readonly limits: Pick<ResolvedSource, 'maxInFlight' | 'maxBytes'>,
  ) {
    this.failed.catch(() => undefined);
    // With a topic alias (MQTT 5) the packet lacks the topic. Only this event has it, which comes right before the call.
    client.on('message', (topic) => (this.topic = topic));
    client.handleMessage = (packet, callback) => this.take(packet, callback);
  }

  /** Receives nothing more; resolves when what is being appended is stored and acknowledged, or has failed. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.waiting = [];
    await this.appending;
  }

  private take(packet: IPublishPacket, callback: (error?: Error) => void): void {
    // Without its callback mqtt.js waits, as if we were busy.
    if (this.stopped) return;
    const message = messageOf(packet, this.topic);
    this.count += 1;
    this.bytes += message.payload.length;
    this.waiting.push({
      message,
      id: packet.qos === 1 ? packet.messageId : undefined,
      answer: packet.qos === 2 ? () => callback() : undefined,
    });
    this.appending ??= this.appendAll();
    if (packet.qos === 2) return;
    const next = () => callback(packet.qos === 1 ? LATER : undefined);
    if (this.isFull()) this.resume = next;
    else next();
  }

  private isFull(): boolean {
    return this.count >= this.limits.maxInFlight || this.bytes >= this.limits.maxBytes;
  }

  private async appendAll(): Promise<void> {
    try {
      // By then the other packets of the same read have arrived.
      await setImmediate();
      while (this.waiting.length > 0) {
        const batch = this.waiting;
        this.waiting = [];
        const held = await this.appender.append(batch.map(({ message }) => message));
        this.settle(batch, held);
      }
    } catch (error) {
      this.stopped = true;
      this.fail(error);
    } finally {
      this.appending = undefined;
    }
  }

  private settle(batch: readonly Arrival[], held: ReadonlySet<MqttMessage>): void {
    const stored = batch.filter(({ message }) => !held.has(message));
    acknowledge(
      this.client,
      stored.flatMap(({ id }) => id ?? []),
    );
    for (const { answer } of stored) answer?.();
    this.count -= batch.length;
    for (const { message } of batch) this.bytes -= message.payload.length;
    const { resume } = this;
    if (this.stopped || resume === undefined || this.isFull()) return;
    this.resume = undefined;
    resume();
  }
}

function messageOf(packet: IPublishPacket, topic: string): MqttMessage {
  const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload;
  const { qos, retain, dup, properties = {} } = packet;
  return { topic, payload, data: payload, qos, retain, dup, properties };
}
