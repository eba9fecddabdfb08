import { asError } from '../../errors/error-text.js';
import { AppendError, ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import type { SourceAppendOptions, SourceTarget } from '../../sources/source.interface.js';
import { headersOf, type MqttMessage, readPayload } from './mqtt-message.js';
import type { ResolvedSource } from './mqtt-source.options.js';
import type { Oddities } from './oddities.js';

interface Entry {
  readonly message: MqttMessage;
  readonly data: unknown;
  readonly options: Omit<SourceAppendOptions, 'position'>;
}

/** Says of one message that it can't be stored; others of the call can. */
const REFUSALS: readonly string[] = [ErrorCode.NotStorable, ErrorCode.MessageTooLarge, ErrorCode.InvalidOptions];

/** Appends messages together; looks after those that can't be. */
export class BatchWriter {
  private held = 0;

  constructor(
    private readonly target: SourceTarget,
    private readonly source: ResolvedSource,
    private readonly oddities: Oddities,
  ) {}

  /**
   * Resolves when all messages that the stream can take are stored, with those that must not be acknowledged.
   *
   * @throws what the append failed with; `SourceFailed` if too many are held back
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
    for (const { entry, error } of await this.append(entries)) await refuse(entry.message, error);
    return held;
  }

  /** Undefined for a message that is left out. */
  private entryOf(message: MqttMessage): Entry | undefined {
    const { format, key, dedupeId } = this.source;
    const payload = readPayload(message.payload, format);
    const known = { ...message, data: payload.data };
    const data = payload.malformed ? this.mended(known, payload.malformed) : payload.data;
    if (data === undefined) return undefined;
    const final = { ...known, data };
    const keyed = key?.(final);
    const dedupe = dedupeId?.(final);
    const options = {
      headers: headersOf(message),
      ...(keyed === undefined ? {} : { key: keyed }),
      ...(dedupe === undefined ? {} : { dedupeId: dedupe }),
    };
    return { message, data, options };
  }

  private mended(message: MqttMessage, error: Error): unknown {
    const { malformed } = this.source;
    const data = malformed === 'keep' ? message.data : malformed === 'skip' ? undefined : malformed(message, error);
    this.oddities.malformed(message.topic, error, data === undefined ? 'skipped' : 'kept');
    return data;
  }

  /** Resolves with the messages that can't be stored. */
  private async append(entries: readonly Entry[]): Promise<{ readonly entry: Entry; readonly error: Error }[]> {
    if (entries.length === 0) return [];
    const data = entries.map((entry) => entry.data);
    try {
      await this.target.appendMany(data, { each: (_, index) => entries[index]?.options ?? {} });
      return [];
    } catch (error) {
      const failed = refusedOf(error);
      if (failed === 'nothing was written') return await this.appendEach(entries);
      return failed.flatMap(({ index, error: reason }) => {
        const entry = entries[index];
        return entry ? [{ entry, error: reason }] : [];
      });
    }
  }

  /** One by one, to find those that can't be stored. Concurrent calls go together into few writes. */
  private async appendEach(entries: readonly Entry[]): Promise<{ readonly entry: Entry; readonly error: Error }[]> {
    const results = await Promise.allSettled(entries.map(({ data, options }) => this.target.append(data, options)));
    return results.flatMap((result, index) => {
      const entry = entries[index];
      if (result.status === 'fulfilled' || !entry) return [];
      if (!isRefusal(result.reason)) throw result.reason;
      return [{ entry, error: result.reason }];
    });
  }

  /** True if the message must not be acknowledged. */
  private async refused(message: MqttMessage, error: Error): Promise<boolean> {
    const { where, unstorable, maxHeld } = this.source;
    const { topic, payload } = message;
    if (unstorable === 'hold') {
      this.held += 1;
      this.oddities.unstorable(topic, payload.length, error, 'stays with the broker');
      if (this.held < maxHeld || message.qos === 0) return true;
      throw new MinibatchError(
        ErrorCode.SourceFailed,
        `${where}: ${this.held} messages can't be stored and wait in the broker, where they take the place of others; the last, of '${topic}': ${messageOf(error)}. Set unstorable: 'drop', or a function that puts them somewhere else`,
        { cause: error, details: { reason: 'UNSTORABLE', topic, held: this.held } },
      );
    }
    if (unstorable === 'drop') {
      this.oddities.unstorable(topic, payload.length, error, 'is lost, as unstorable says');
      return false;
    }
    await unstorable(message, error);
    this.oddities.unstorable(topic, payload.length, error, 'was given to unstorable');
    return false;
  }
}

/** Which messages of a call can't be stored, if that is all that went wrong. @throws the error if it is not */
function refusedOf(
  error: unknown,
): 'nothing was written' | readonly { readonly index: number; readonly error: Error }[] {
  const failed: unknown = error instanceof AppendError ? error.details['failed'] : undefined;
  if (Array.isArray(failed)) {
    const list = failed as readonly { readonly index: number; readonly error: Error }[];
    if (list.every((one) => isRefusal(one.error))) return list;
  } else if (isRefusal(error)) return 'nothing was written';
  throw error;
}

function isRefusal(error: unknown): error is MinibatchError {
  return error instanceof MinibatchError && REFUSALS.includes(error.code);
}
