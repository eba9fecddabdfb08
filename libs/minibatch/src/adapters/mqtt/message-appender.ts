import { asError, messageOf } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import { FailureReason } from '../failure-reason.js';
import type { MessageName, MessageProblems } from '../message-problems.js';
import { appendStorable, ask, isNotStorable, type Outgoing } from '../outgoing.js';
import type { MutableCounters } from '../source-counters.js';
import { headersOf, type MqttMessage, readPayload } from './mqtt-message.js';
import type { ResolvedSource } from './mqtt-source.options.js';
import { counted } from '../../common/counted.js';

interface OutgoingMessage extends Outgoing {
  readonly message: MqttMessage;
}

export function nameOfMessage({ topic, payload }: MqttMessage): MessageName {
  return { text: `a message of '${topic}' (${payload.length} bytes)`, details: { topic } };
}

/** Appends messages together, and settles those that the stream cannot take. */
export class MessageAppender {
  private held = 0;

  constructor(
    private readonly target: SourceTarget,
    private readonly source: ResolvedSource,
    private readonly problems: MessageProblems<MqttMessage>,
    private readonly counters: MutableCounters,
  ) {}

  /**
   * Resolves when all messages that the stream can take are stored, with those that must not be acknowledged.
   *
   * @throws what the append failed with; as {@link MessageProblems.unstorable}; `SourceFailed` if too many are held back
   */
  async append(messages: readonly MqttMessage[]): Promise<ReadonlySet<MqttMessage>> {
    this.counters.received += messages.length;
    const held = new Set<MqttMessage>();
    const refuse = async (message: MqttMessage, error: Error) => {
      if (!(await this.problems.unstorable(message, error))) return;
      held.add(message);
      this.hold(message, error);
    };
    const outgoing: OutgoingMessage[] = [];
    for (const message of messages) {
      try {
        const made = this.outgoing(message);
        if (made) outgoing.push(made);
      } catch (error) {
        await refuse(message, asError(error));
      }
    }
    const refused = await appendStorable(this.target, outgoing, (made, error) => this.asText(made, error));
    this.counters.appended += outgoing.length - refused.length;
    for (const { message: made, error } of refused) await refuse(made.message, error);
    return held;
  }

  /** JSON may be what no store can hold (a key with NUL, a thousand levels): its text can be stored. */
  private asText(outgoing: OutgoingMessage, error: Error): OutgoingMessage | undefined {
    const { message, data } = outgoing;
    const { format, malformed } = this.source;
    const isJson = format === 'json' && typeof data === 'object' && data !== null;
    if (!isJson || malformed !== 'keep' || !isNotStorable(error)) return undefined;
    this.problems.keptAsText(message, error);
    return { ...outgoing, data: message.payload.toString('utf8') };
  }

  /** Undefined for a message that is left out. */
  private outgoing(message: MqttMessage): OutgoingMessage | undefined {
    const { where, format, largeIntegers, malformed, key, dedupeId } = this.source;
    const payload = readPayload(message.payload, format, largeIntegers);
    const known = { ...message, data: payload.data };
    const data = payload.malformed
      ? this.problems.malformed(malformed, known, nameOfMessage(known).text, payload.malformed, payload.data)
      : payload.data;
    if (data === undefined) return undefined;
    const final = { ...known, data };
    const keyed = key && ask(where, 'key', () => key(final));
    const dedupe = dedupeId && ask(where, 'dedupeId', () => dedupeId(final));
    const options = {
      headers: headersOf(message),
      ...(keyed === undefined ? {} : { key: keyed }),
      ...(dedupe === undefined ? {} : { dedupeId: dedupe }),
    };
    return { message, data, options };
  }

  /** A broker that waits for too many acknowledgements sends nothing more: better to fail than to stall. */
  private hold({ topic, qos }: MqttMessage, cause: Error): void {
    const { where, maxHeld } = this.source;
    this.held += 1;
    if (this.held < maxHeld || qos === 0) return;
    const what = `${where}: ${counted(this.held, 'message')} that can't be stored ${this.held === 1 ? 'waits' : 'wait'} in the broker, in the place of others; the last, of '${topic}': ${messageOf(cause)}`;
    const remedy = "Set unstorable: 'skip', or a function that puts them somewhere else";
    throw new MinibatchError(ErrorCode.SourceFailed, `${what}. ${remedy}`, {
      cause,
      details: { reason: FailureReason.Unstorable, topic, held: this.held },
    });
  }
}
