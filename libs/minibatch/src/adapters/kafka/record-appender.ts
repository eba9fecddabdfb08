import { asError } from '../../errors/error-text.js';
import type { Mutable } from '../../common/mutable.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import type { MessageName, MessageProblems } from '../message-problems.js';
import { appendStorable, ask, isNotStorable, type Outgoing, type Refused } from '../outgoing.js';
import type { MutableCounters } from '../source-counters.js';
import { type KafkaRecord, messageHeaders } from './kafka-record.js';
import type { ResolvedKafkaSource } from './kafka-source.options.js';
import { decode, type Decoded, plainValue } from './record-format.js';

/** A record on its way into the stream. */
interface OutgoingRecord extends Outgoing {
  readonly record: KafkaRecord;
}

type RefusedRecord = Refused<{ readonly record: KafkaRecord }>;

type Reading = Pick<ResolvedKafkaSource, 'where' | 'format' | 'malformed' | 'largeIntegers' | 'key' | 'dedupeId'>;

export function nameOfRecord({ id }: KafkaRecord): MessageName {
  return { text: `the record ${id}`, details: { record: id } };
}

/** Makes messages of records and appends them in their order. */
export class RecordAppender {
  constructor(
    private readonly target: SourceTarget,
    private readonly reading: Reading,
    private readonly problems: MessageProblems<KafkaRecord>,
    private readonly counters: MutableCounters,
  ) {}

  /**
   * Resolves when all records are durable, except those that the options leave out.
   *
   * @throws MinibatchError of the append; as {@link MessageProblems.unstorable}
   */
  async append(records: readonly KafkaRecord[]): Promise<void> {
    this.counters.received += records.length;
    const refused: RefusedRecord[] = [];
    const messages = await this.outgoing(records, refused);
    const asText = (message: OutgoingRecord, error: Error) => this.asText(message, error);
    const notStored = await appendStorable(this.target, messages, asText);
    this.counters.appended += messages.length - notStored.length;
    for (const { message, error } of [...refused, ...notStored]) await this.problems.unstorable(message.record, error);
  }

  /** JSON may be what no store can hold (a key with NUL, a thousand levels): its text can be stored. */
  private asText(message: OutgoingRecord, error: Error): OutgoingRecord | undefined {
    const { record, data } = message;
    const { format, malformed } = this.reading;
    const isJson = format === 'json' && typeof data === 'object' && data !== null;
    if (!isJson || malformed !== 'keep' || !isNotStorable(error)) return undefined;
    this.problems.keptAsText(record, error);
    return { ...message, data: plainValue(record) };
  }

  private async outgoing(
    records: readonly KafkaRecord[],
    refused: RefusedRecord[],
  ): Promise<readonly OutgoingRecord[]> {
    const { format, largeIntegers } = this.reading;
    const decoded = records.map((record) => decode(format, record, largeIntegers));
    // A turn of the event loop for each record costs more than the decoding: only functions of the options may be slow.
    const values = decoded.some((value) => value instanceof Promise)
      ? await Promise.all(decoded.map(awaited))
      : decoded;
    const messages: OutgoingRecord[] = [];
    for (const [index, record] of records.entries()) {
      try {
        const message = this.messageOf(record, values[index] as Decoded);
        if (message) messages.push(message);
      } catch (error) {
        refused.push({ message: { record }, error: asError(error) });
      }
    }
    return messages;
  }

  /** Undefined for a record that is left out. */
  private messageOf(record: KafkaRecord, value: Decoded): OutgoingRecord | undefined {
    const { where, key, dedupeId } = this.reading;
    const data = 'data' in value ? value.data : this.malformed(record, value);
    if (data === undefined) return undefined;
    const options: Mutable<Outgoing['options']> = { headers: messageHeaders(record) };
    const keyed = ask(where, 'key', () => key(record));
    if (keyed !== undefined) options.key = keyed;
    const id = ask(where, 'dedupeId', () => dedupeId(record));
    if (id !== undefined) options.dedupeId = id;
    return { record, data, options };
  }

  /** Undefined leaves it out. */
  private malformed(record: KafkaRecord, { malformed }: Malformed): unknown {
    return this.problems.malformed(
      this.reading.malformed,
      record,
      nameOfRecord(record).text,
      malformed,
      plainValue(record),
    );
  }
}

const awaited = async (value: Decoded | Promise<Decoded>): Promise<Decoded> => value;

type Malformed = Extract<Decoded, { readonly malformed: Error }>;
