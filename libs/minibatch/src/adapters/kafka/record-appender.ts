import { asError, messageOf } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { Mutable } from '../../common/mutable.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import { appendStorable, ask, isNotStorable, named, type Outgoing, type Refused } from '../outgoing.js';
import { type KafkaRecord, messageHeaders } from './kafka-record.js';
import type { ResolvedKafkaSource } from './kafka-source.options.js';
import type { RecordCounts } from './record-counts.js';
import { decode, type Decoded, plainValue } from './record-format.js';

/** A record on its way into the stream. */
interface OutgoingRecord extends Outgoing {
  readonly record: KafkaRecord;
}

type RefusedRecord = Refused<{ readonly record: KafkaRecord }>;

type Reading = Pick<
  ResolvedKafkaSource,
  'where' | 'format' | 'malformed' | 'largeIntegers' | 'unstorable' | 'key' | 'dedupeId'
>;

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
   * @throws MinibatchError of the append; `SourceFailed` if `unstorable` threw; what a record was refused with, if `unstorable` says so
   */
  async append(records: readonly KafkaRecord[]): Promise<void> {
    this.counts.received += records.length;
    const refused: RefusedRecord[] = [];
    const messages = await this.outgoing(records, refused);
    const mended = (message: OutgoingRecord, error: Error) => this.asText(message, error);
    refused.push(...(await appendStorable(this.target, messages, mended)));
    await this.giveUp(refused);
  }

  /** JSON may be what no store can hold (a key with NUL, a thousand levels): its text can be stored. */
  private asText(message: OutgoingRecord, error: Error): OutgoingRecord | undefined {
    const { record, data } = message;
    const { format, malformed } = this.reading;
    const isJson = format === 'json' && typeof data === 'object' && data !== null;
    if (!isJson || malformed !== 'keep' || !isNotStorable(error)) return undefined;
    this.counts.kept(record, messageOf(error));
    return { ...message, data: plainValue(record) };
  }

  /** Of those that can't be stored. */
  private async giveUp(refused: readonly RefusedRecord[]): Promise<void> {
    const [first] = refused;
    if (first === undefined) return;
    const { where, unstorable } = this.reading;
    if (unstorable === 'fail') {
      const { id } = first.message.record;
      throw named(`the record ${id}`, first.error, { record: id });
    }
    this.counts.unstorable += refused.length;
    const records = refused.map(({ message }) => message.record);
    const why = `the stream can't take them: ${messageOf(first.error)}`;
    if (unstorable === 'skip') {
      this.counts.leftOut(records, why);
      return;
    }
    for (const { message, error } of refused) {
      try {
        await unstorable(message.record, error);
      } catch (cause) {
        const what = `${where}: unstorable failed for the record ${message.record.id}, which will be delivered again`;
        throw new MinibatchError(ErrorCode.SourceFailed, `${what}: ${messageOf(cause)}`, {
          cause,
          details: { option: 'unstorable', record: message.record.id },
        });
      }
    }
    this.counts.givenAway(records, why);
  }

  private async outgoing(
    records: readonly KafkaRecord[],
    refused: RefusedRecord[],
  ): Promise<readonly OutgoingRecord[]> {
    const { format, largeIntegers } = this.reading;
    const decoded = records.map((record) => decode(format, record, largeIntegers));
    // A turn of the event loop for each record costs more than the decoding: only own functions may take their time.
    const values = decoded.some((value) => value instanceof Promise)
      ? await Promise.all(decoded.map(awaited))
      : decoded;
    const skipped: KafkaRecord[] = [];
    const messages: OutgoingRecord[] = [];
    for (const [index, record] of records.entries()) {
      try {
        const message = this.messageOf(record, values[index] as Decoded, skipped);
        if (message) messages.push(message);
      } catch (error) {
        refused.push({ message: { record }, error: asError(error) });
      }
    }
    this.counts.leftOut(skipped, 'malformed');
    return messages;
  }

  /** Undefined for a record that is left out. */
  private messageOf(record: KafkaRecord, value: Decoded, skipped: KafkaRecord[]): OutgoingRecord | undefined {
    const { where, key, dedupeId } = this.reading;
    const data = 'data' in value ? value.data : this.malformed(record, value, skipped);
    if (data === undefined) return undefined;
    const options: Mutable<Outgoing['options']> = { headers: messageHeaders(record) };
    const keyed = ask(where, 'key', () => key(record));
    if (keyed !== undefined) options.key = keyed;
    const id = ask(where, 'dedupeId', () => dedupeId(record));
    if (id !== undefined) options.dedupeId = id;
    return { record, data, options };
  }

  /** Undefined leaves it out. */
  private malformed(record: KafkaRecord, { malformed, error }: Malformed, skipped: KafkaRecord[]): unknown {
    const { where, malformed: policy } = this.reading;
    if (policy === 'keep') {
      this.counts.kept(record, malformed);
      return plainValue(record);
    }
    this.counts.malformed += 1;
    const data =
      policy === 'skip' ? undefined : ask(where, 'malformed', () => policy(record, error ?? new Error(malformed)));
    if (data === undefined) skipped.push(record);
    return data;
  }
}

const awaited = async (value: Decoded | Promise<Decoded>): Promise<Decoded> => value;

type Malformed = Extract<Decoded, { readonly malformed: string }>;
