import { asError, messageOf } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import { appendStorable, ask, isNotStorable, type Outgoing } from '../outgoing.js';
import { headersOf, type MqttMessage, readPayload } from './mqtt-message.js';
import type { ResolvedSource } from './mqtt-source.options.js';
import type { Oddities } from './oddities.js';

interface Entry extends Outgoing {
  readonly message: MqttMessage;
}

/** Appends messages together; looks after those that can't be. */
export class MessageAppender {
  private held = 0;

  constructor(
    private readonly target: SourceTarget,
    private readonly source: ResolvedSource,
    private readonly oddities: Oddities,
  ) {}

  /**
   * Resolves when all messages that the stream can take are stored, with those that must not be acknowledged.
   *
   * @throws what the append failed with; `SourceFailed` if too many are held back, or if `unstorable` says so or failed itself
   */
  async write(messages: readonly MqttMessage[]): Promise<ReadonlySet<MqttMessage>> {
    const held = new Set<MqttMessage>();
    const refuse = async (message: MqttMessage, error: Error) => {
      if (await this.refused(message, error)) held.add(message);
    };
    const entries: Entry[] = [];
    for (const message of messages) {
      try {
        const entry = this.entryOf(message);
        if (entry) entries.push(entry);
      } catch (error) {
        await refuse(message, asError(error));
      }
    }
    const refused = await appendStorable(this.target, entries, (entry, error) => this.asText(entry, error));
    for (const { message: entry, error } of refused) await refuse(entry.message, error);
    return held;
  }

  /** JSON may be what no store can hold (a key with NUL, a thousand levels): its text can be stored. */
  private asText(entry: Entry, error: Error): Entry | undefined {
    const { message, data } = entry;
    const { format, malformed } = this.source;
    const isJson = format === 'json' && typeof data === 'object' && data !== null;
    if (!isJson || malformed !== 'keep' || !isNotStorable(error)) return undefined;
    this.oddities.malformed(message.topic, error, 'kept');
    return { ...entry, data: message.payload.toString('utf8') };
  }

  /** Undefined for a message that is left out. */
  private entryOf(message: MqttMessage): Entry | undefined {
    const { where, format, largeIntegers, key, dedupeId } = this.source;
    const payload = readPayload(message.payload, format, largeIntegers);
    const known = { ...message, data: payload.data };
    const data = payload.malformed ? this.mended(known, payload.malformed) : payload.data;
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

  private mended(message: MqttMessage, error: Error): unknown {
    const { where, malformed } = this.source;
    const own = typeof malformed === 'function' ? ask(where, 'malformed', () => malformed(message, error)) : undefined;
    const data = malformed === 'keep' ? message.data : own;
    this.oddities.malformed(message.topic, error, data === undefined ? 'skipped' : 'kept');
    return data;
  }

  /** True if the message must not be acknowledged. */
  private async refused(message: MqttMessage, error: Error): Promise<boolean> {
    const { where, unstorable, maxHeld } = this.source;
    const { topic, payload } = message;
    if (unstorable === 'fail') {
      this.oddities.unstorable(topic, payload.length, error, 'fails the source, as unstorable says');
      throw this.failure(message, error, `a message of '${topic}' can't be stored: ${messageOf(error)}`);
    }
    if (unstorable === 'hold') {
      this.held += 1;
      this.oddities.unstorable(topic, payload.length, error, 'stays with the broker');
      if (this.held < maxHeld || message.qos === 0) return true;
      const many = `${this.held} messages can't be stored and wait in the broker, where they take the place of others; the last, of '${topic}': ${messageOf(error)}`;
      throw this.failure(
        message,
        error,
        `${many}. Set unstorable: 'skip', or a function that puts them somewhere else`,
      );
    }
    if (unstorable === 'skip' || unstorable === 'drop') {
      this.oddities.unstorable(topic, payload.length, error, 'is lost, as unstorable says');
      return false;
    }
    try {
      await unstorable(message, error);
    } catch (cause) {
      const what = `${where}: unstorable failed for a message of '${topic}', which will be delivered again`;
      throw new MinibatchError(ErrorCode.SourceFailed, `${what}: ${messageOf(cause)}`, {
        cause,
        details: { reason: 'UNSTORABLE', option: 'unstorable', topic },
      });
    }
    this.oddities.unstorable(topic, payload.length, error, 'was given to unstorable');
    return false;
  }

  private failure({ topic }: MqttMessage, cause: Error, text: string): MinibatchError {
    return new MinibatchError(ErrorCode.SourceFailed, `${this.source.where}: ${text}`, {
      cause,
      details: { reason: 'UNSTORABLE', topic, held: this.held },
    });
  }
}
