import { decodeMessage } from '../encoded-message.js';
import type {
  Block,
  ConsumerKey,
  FetchLimits,
  MessageId,
  StoredMessage,
  TimeCursor,
  TimeRange,
} from '../stream-store.interface.js';
import type { Database } from './database.js';
import type { Floors } from './floors.js';
import { afterNumber, hexSql, isAmong, numberSet, untilNumber } from './ids.js';
import { REDRIVEN } from './message-removal.js';
import { consumerOf, isOpen, type Statement, statement, STREAM, withinBytes } from './sql.js';
import { isFull } from './windows.js';

/** Id, bytes, and whether the stream was cleared after it had been appended; not false but null, which takes no time to read. */
type MessageRow = readonly [id: string, body: Buffer, cleared: true | null];

const OF_PARTITION = `m.stream = ${STREAM} and m.partition = $3`;
const CLEARED = `case when (m.flags & ${REDRIVEN}) = 0 and m.id <= (select cleared_to from minibatch.stream where name = $1) then true end`;
const limited = (which: string, order: string, bytes: string) =>
  withinBytes(
    `${hexSql('number')}, body, cleared`,
    `select m.id as number, m.created, m.body, ${CLEARED} as cleared from minibatch.message m where ${which}`,
    order,
    bytes,
  );

const FETCH = statement(
  limited(`${OF_PARTITION} and m.id > $4 and ${isOpen('$4')} order by m.id limit $5`, 'number', '$6::bigint'),
);
const FETCH_BY_TIME = statement(
  limited(
    `${OF_PARTITION} and m.created >= $4 and m.created < $5 and (m.created, m.id) > ($6, $7) and ${isOpen('0')}
      order by m.created, m.id limit $8`,
    'created, number',
    '$9::bigint',
  ),
);
const SCAN = statement(`select ${hexSql('m.id')} from minibatch.message m
  where ${OF_PARTITION} and m.id > $4 and m.id <= $5 and ${isOpen('$4')} order by m.id limit $6`);
const LOAD = statement(`select ${hexSql('m.id')}, m.body, ${CLEARED} from minibatch.message m
  where ${OF_PARTITION} and ${isAmong('m.id', { array: '$4', low: '$5', high: '$6' })} and ${isOpen('$5::bigint - 1')}`);

/** Reads of the buffer by one consumer. */
export class Reads {
  constructor(
    private readonly database: Database,
    private readonly floors: Floors,
  ) {}

  async fetch(key: ConsumerKey, after: MessageId | undefined, limits: FetchLimits): Promise<Block> {
    const messages = await this.read(FETCH, [
      ...consumerOf(key),
      this.start(key, after),
      limits.messages,
      limits.bytes,
    ]);
    return { messages, full: isFull(messages, limits) };
  }

  async fetchByTime(
    key: ConsumerKey,
    { from, to }: TimeRange,
    after: TimeCursor | undefined,
    limits: FetchLimits,
  ): Promise<Block> {
    const messages = await this.read(FETCH_BY_TIME, [
      ...consumerOf(key),
      from?.getTime() ?? '-Infinity',
      to?.getTime() ?? 'Infinity',
      after?.created.getTime() ?? '-Infinity',
      afterNumber(after?.id),
      limits.messages,
      limits.bytes,
    ]);
    return { messages, full: isFull(messages, limits) };
  }

  async scan(
    key: ConsumerKey,
    after: MessageId | undefined,
    until: MessageId | undefined,
    limit: number,
  ): Promise<readonly MessageId[]> {
    const values = [...consumerOf(key), this.start(key, after), untilNumber(until), limit];
    const rows = await this.database.rows<readonly [string]>('read ids', SCAN, values);
    return rows.map(([id]) => id);
  }

  async load(key: ConsumerKey, ids: readonly MessageId[]): Promise<readonly StoredMessage[]> {
    if (ids.length === 0) return [];
    const { array, low, high } = numberSet(ids);
    const found = new Map<string, StoredMessage>();
    for (const message of await this.read(LOAD, [...consumerOf(key), array, low, high])) found.set(message.id, message);
    return ids.flatMap((id) => found.get(id) ?? []);
  }

  private start({ stream, partition }: ConsumerKey, after: MessageId | undefined): number {
    return after === undefined ? this.floors.readFrom(stream, partition) : afterNumber(after);
  }

  private async read(statement: Statement, values: readonly unknown[]): Promise<StoredMessage[]> {
    const rows = await this.database.rows<MessageRow>('read messages', statement, values);
    return rows.map(([id, body, cleared]) => {
      const message = decodeMessage(id, body);
      return cleared ? Object.assign(message, { cleared: true as const }) : message;
    });
  }
}
