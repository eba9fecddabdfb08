import { AppendError, ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
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
    if (messages.length === 0) return;
    try {
      await this.target.appendMany(
        messages.map(({ data }) => data),
        { each: (_, index) => messages[index]?.options ?? {} },
      );
    } catch (error) {
      if (!isUnstorable(error)) throw error;
      await this.appendEach(messages);
    }
  }

  /**
   * One of them can't be stored, and the error need not say which. What has been stored by the first try is ignored here for its
   * dedupe id.
   */
  private async appendEach(messages: readonly Outgoing[]): Promise<void> {
    const refused: { readonly record: KafkaRecord; readonly error: unknown }[] = [];
    const appends = messages.map(async (message) => {
      try {
        await this.appendOne(message);
      } catch (error) {
        if (!isUnstorable(error) || this.reading.unstorable === 'fail') throw named(message.record, error);
        refused.push({ record: message.record, error });
      }
    });
    const results = await Promise.allSettled(appends);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    const [first] = refused;
    if (first === undefined) return;
    this.counts.leftOut(
      refused.map(({ record }) => record),
      `the store can't take them: ${messageOf(first.error)}`,
    );
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
    const values = await Promise.all(records.map(async (record) => decode(format, record)));
    const skipped: KafkaRecord[] = [];
    const messages = records.flatMap((record, index) => {
      const value = values[index];
      const data = value && ('data' in value ? value.data : this.malformed(record, value, skipped));
      if (data === undefined) return [];
      const id = this.call('dedupeId', record, () => dedupeId(record));
      const options = {
        headers: messageHeaders(record),
        ...(record.key === undefined ? {} : { key: record.key }),
        ...(id === undefined ? {} : { dedupeId: id }),
      };
      return [{ record, data, options }];
    });
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

  private call<V>(option: string, record: KafkaRecord, work: () => V): V {
    try {
      return work();
    } catch (cause) {
      throw new MinibatchError(
        ErrorCode.SourceFailed,
        `${this.reading.where}: ${option} threw for the record ${record.id}: ${messageOf(cause)}. It is read again until ${option} takes it`,
        { cause, details: { option, record: record.id } },
      );
    }
  }
}

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
