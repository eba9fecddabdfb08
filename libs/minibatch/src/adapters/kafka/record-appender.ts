import { AppendError, ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import type { Mutable } from '../../internal/mutable.js';
import type { SourceAppendOptions, SourceTarget } from '../../sources/source.interface.js';
import { type KafkaRecord, messageHeaders } from './kafka-record.js';
import type { ResolvedKafkaSource } from './kafka-source.options.js';
import type { RecordCounts } from './record-counts.js';
import { decode, type Decoded, plainValue } from './record-format.js';

/** A record on its way into the stream. */
interface Outgoing {
  readonly record: KafkaRecord;
  readonly data: unknown;
  readonly options: Omit<SourceAppendOptions, 'position'>;
}

interface Refused {
  readonly record: KafkaRecord;
  readonly error: unknown;
}

type Reading = Pick<ResolvedKafkaSource, 'where' | 'format' | 'malformed' | 'unstorable' | 'dedupeId'>;

/** Makes messages of records and appends them in their order. */
export class RecordAppender {
  constructor(
    private readonly target: SourceTarget,
    private readonly reading: Reading,
    private readonly counts: RecordCounts,
  ) {}

  /**
   * Resolves when all of them are durable, except those that were left out by what the user said.
   *
   * @throws MinibatchError of the append; `SourceFailed` if a function of the options threw
   */
  async append(records: readonly KafkaRecord[]): Promise<void> {
    this.counts.received += records.length;
    const messages = await this.outgoing(records);
    const refused: Refused[] = [];
    await this.appendAll(messages, refused);
    const [first] = refused;
    if (first === undefined) return;
    this.counts.leftOut(
      refused.map(({ record }) => record),
      `the store can't take them: ${messageOf(first.error)}`,
    );
  }

  /** If one of them can't be stored, the error need not say which: it is looked for by halves, so that the order stays. */
  private async appendAll(messages: readonly Outgoing[], refused: Refused[]): Promise<void> {
    const [only, ...others] = messages;
    if (only === undefined) return;
    try {
      if (others.length === 0) await this.appendOne(only);
      else await this.appendMany(messages);
    } catch (error) {
      if (!isUnstorable(error)) throw error;
      if (others.length === 0) {
        if (this.reading.unstorable === 'fail') throw named(only.record, error);
        refused.push({ record: only.record, error });
        return;
      }
      // What has been stored by this try is ignored in the next for its dedupe id.
      const middle = Math.ceil(messages.length / 2);
      await this.appendAll(messages.slice(0, middle), refused);
      await this.appendAll(messages.slice(middle), refused);
    }
  }

  private appendMany(messages: readonly Outgoing[]): Promise<void> {
    const data = messages.map((message) => message.data);
    return this.target.appendMany(data, { each: (_, index) => messages[index]?.options ?? {} });
  }

  private async appendOne({ record, data, options }: Outgoing): Promise<void> {
    try {
      await this.target.append(data, options);
    } catch (error) {
      // JSON may be what no store can hold (a key with NUL, a thousand levels): its text can be stored.
      const isText = codeOf(error) === ErrorCode.NotStorable && this.reading.format === 'json';
      if (!isText || typeof data !== 'object' || data === null) throw error;
      await this.target.append(plainValue(record), options);
      this.counts.kept(record, messageOf(error));
    }
  }

  private async outgoing(records: readonly KafkaRecord[]): Promise<readonly Outgoing[]> {
    const { format, dedupeId } = this.reading;
    const decoded = records.map((record) => decode(format, record));
    // A turn of the event loop for each record costs more than the decoding: only own functions may take their time.
    const values = decoded.some((value) => value instanceof Promise)
      ? await Promise.all(decoded.map(awaited))
      : decoded;
    const skipped: KafkaRecord[] = [];
    const messages: Outgoing[] = [];
    for (const [index, record] of records.entries()) {
      const value = values[index] as Decoded | undefined;
      const data = value && ('data' in value ? value.data : this.malformed(record, value, skipped));
      if (data === undefined) continue;
      const options: Mutable<Outgoing['options']> = { headers: messageHeaders(record) };
      if (record.key !== undefined) options.key = record.key;
      const id = this.call('dedupeId', record, dedupeId);
      if (id !== undefined) options.dedupeId = id;
      messages.push({ record, data, options });
    }
    this.counts.leftOut(skipped, 'malformed');
    return messages;
  }

  /** Undefined leaves it out. */
  private malformed(record: KafkaRecord, { malformed, error }: Malformed, skipped: KafkaRecord[]): unknown {
    const policy = this.reading.malformed;
    if (policy === 'keep') {
      this.counts.kept(record, malformed);
      return plainValue(record);
    }
    this.counts.malformed += 1;
    const data =
      policy === 'skip'
        ? undefined
        : this.call('malformed', record, () => policy(record, error ?? new Error(malformed)));
    if (data === undefined) skipped.push(record);
    return data;
  }

  private call<V>(option: string, record: KafkaRecord, work: (record: KafkaRecord) => V): V {
    try {
      return work(record);
    } catch (cause) {
      throw new MinibatchError(
        ErrorCode.SourceFailed,
        `${this.reading.where}: ${option} threw for the record ${record.id}: ${messageOf(cause)}. It is read again until ${option} takes it`,
        { cause, details: { option, record: record.id } },
      );
    }
  }
}

const awaited = async (value: Decoded | Promise<Decoded>): Promise<Decoded> => value;

type Malformed = Extract<Decoded, { readonly malformed: string }>;

function isUnstorable(error: unknown): boolean {
  const code = codeOf(error);
  return code === ErrorCode.NotStorable || code === ErrorCode.MessageTooLarge;
}

function codeOf(error: unknown): ErrorCode | undefined {
  return error instanceof MinibatchError ? error.code : undefined;
}

/** The store does not know where the message comes from. */
function named(record: KafkaRecord, error: unknown): unknown {
  if (!(error instanceof AppendError)) return error;
  const text = error.message.replace(/ \[MINIBATCH_\w+\]$/, '');
  return new AppendError(error.code, `the record ${record.id}: ${text}`, error.stored, {
    cause: error,
    details: { ...error.details, record: record.id },
  });
}
