import { batchesOf } from '../../common/batches.js';
import { type EncodedMessage, encodeMessage } from '../encoded-message.js';
import type { ConsumerKey, Effects, NewMessage, StateLimits, StatePage, StateRow } from '../stream-store.interface.js';
import { appendOf } from './append-statement.js';
import type { Database, Queries } from './database.js';
import { type Draft, isUnsettled, settleDrafts, STATEMENT_LIMITS, streamsOf } from './drafts.js';
import { numberArray } from './ids.js';
import { consumerOf, statement, STREAM } from './sql.js';
import { createStreams } from './streams.js';

/** Rows of consumers' state, and the effects of commits: written in the transaction of the commit point. */

/** A consumer, by the numbers under which its rows are stored. */
export interface RowOwner {
  readonly stream: number;
  readonly number: number;
}

interface Row {
  readonly slot: string;
  readonly due: number | null;
  readonly value: Buffer;
}

interface PreparedEffects {
  readonly seq: number;
  readonly put: readonly StateRow[];
  readonly remove: readonly string[];
  readonly messages: readonly { readonly message: NewMessage; readonly encoded: EncodedMessage }[];
}

/** The effects of a commit, ready to be written. */
export interface CommitEffects {
  /** In the order of `seq`. */
  readonly windows: readonly PreparedEffects[];
  /** Those that get messages. */
  readonly streams: readonly string[];
}

/** The bytes of the values are in one parameter, which the driver sends as they are. */
const PUT = statement(`insert into minibatch.state (stream, consumer, slot, due, value)
  select $1::int, $2::bigint, u.slot, u.due, substring($3::bytea from u.start for u.length)
  from unnest($4::text[], $5::float8[], $6::int[], $7::int[]) u(slot, due, start, length)
  on conflict (stream, consumer, slot) do update set due = excluded.due, value = excluded.value`);
const REMOVE = statement(
  'delete from minibatch.state where stream = $1::int and consumer = $2::bigint and slot = any($3::text[])',
);

const CONSUMER = `(select number from minibatch.consumer where stream = ${STREAM} and grp = $2 and partition = $3)`;
const OWN = `stream = ${STREAM} and consumer = ${CONSUMER}`;
const READ = statement(`select slot, due, value from minibatch.state where ${OWN} and slot = any($4::text[])`);
const DUE = statement(
  page(
    `select slot, due, value from minibatch.state
      where ${OWN} and due <= $6::float8 and (due, slot) > ($7::float8, $8::text) order by due, slot limit $4::bigint`,
    'due, slot',
  ),
);
const LIST = statement(
  page(
    `select slot, due, value from minibatch.state where ${OWN} and slot > $6::text order by slot limit $4::bigint + 1`,
    'slot',
  ),
);
/** Rows of consumers that are gone: the rows lie together by their consumers, of which each is looked for once. */
const REMOVE_ORPHANS = statement(`with recursive
  found(number) as (
    (select consumer from minibatch.state where stream = ${STREAM} order by consumer limit 1)
    union all
    select (select s.consumer from minibatch.state s where s.stream = ${STREAM} and s.consumer > f.number order by s.consumer limit 1)
    from found f where f.number is not null),
  orphaned as (select number from found f where number is not null and (
    select 1 from minibatch.consumer c where c.stream = ${STREAM} and c.number = f.number limit 1) is null limit 1),
  gone as (delete from minibatch.state where ctid = any(array(
    select ctid from minibatch.state where stream = ${STREAM} and consumer = (select number from orphaned) limit $2)) returning 1)
  select count(*)::int as count from gone`);
/** Rows of one statement: no lock is held long, and the log of the server does not grow by all of them at once. */
const ORPHANS_CHUNK = 5_000;

/** Rows of `inner` up to the limits `$4` and `$5`, of which the first has room always, and how many there are. */
function page(inner: string, order: string): string {
  return `select slot, due, value, found from (
    select i.*, row_number() over w as n, sum(octet_length(value)) over w as bytes, count(*) over () as found
    from (${inner}) i window w as (order by ${order} rows unbounded preceding)) o
  where n = 1 or (n <= $4::bigint and bytes <= $5::bigint) order by n`;
}

/** @throws AppendError if a message can't be stored */
export function prepareEffects(effects: ReadonlyMap<number, Effects>): CommitEffects {
  const windows = [...effects]
    .sort(([a], [b]) => a - b)
    .map(([seq, { put = [], remove = [], append = [] }]) => ({ seq, put, remove, messages: append.map(prepare) }));
  const streams = windows.flatMap(({ messages }) => messages.map(({ message }) => message.stream));
  return { windows, streams: [...new Set(streams)] };
}

/** Without its dedupe id: the commit point tells whether the message is there, and no statement has to wait for one that uses the id. */
function prepare({ dedupeId: _, ...message }: NewMessage): PreparedEffects['messages'][number] {
  return { message, encoded: encodeMessage(message) };
}

/** @param applied windows of the commit point before: their effects are there */
export async function applyEffects(
  queries: Queries,
  owner: RowOwner,
  applied: readonly number[],
  { windows }: CommitEffects,
): Promise<void> {
  const fresh = windows.filter(({ seq }) => !applied.includes(seq));
  await writeRows(queries, owner, fresh);
  const drafts = fresh.flatMap(({ messages }) => messages).map((each, index): Draft => ({ ...each, index }));
  for (const { items } of batchesOf(drafts, STATEMENT_LIMITS, ({ encoded }) => encoded.length)) {
    await appendAll(queries, items);
  }
}

/** Each row as the last of the windows leaves it. */
async function writeRows(queries: Queries, owner: RowOwner, windows: readonly PreparedEffects[]): Promise<void> {
  const place = [owner.stream, owner.number];
  const rows = new Map<string, StateRow | undefined>();
  for (const { put, remove } of windows) {
    for (const row of put) rows.set(row.slot, row);
    for (const slot of remove) rows.set(slot, undefined);
  }
  const put = [...rows.values()].filter((row) => row !== undefined);
  for (const { items } of batchesOf(put, STATEMENT_LIMITS, ({ value }) => value.length)) {
    const due = numberArray(items.map((row) => row.due?.getTime() ?? 'null'));
    const lengths = items.map(({ value }) => value.length);
    let end = 1;
    const starts = lengths.map((length) => (end += length) - length);
    const values = [Buffer.concat(items.map(({ value }) => value)), items.map(({ slot }) => slot), due];
    await queries.query(PUT, [...place, ...values, numberArray(starts), numberArray(lengths)]);
  }
  const removed = [...rows].filter(([, row]) => row === undefined).map(([slot]) => slot);
  if (removed.length > 0) await queries.query(REMOVE, [...place, removed]);
}

/** Makes the streams that are missing. They are nobody else's until the transaction ends, so that each of them gets its messages at once. */
async function appendAll(queries: Queries, drafts: readonly Draft[]): Promise<void> {
  for (let left = drafts; left.length > 0; left = left.filter(isUnsettled)) {
    if (left !== drafts) await createStreams(queries, streamsOf(left));
    const { statement: sent, values } = appendOf(left, {});
    const rows = await queries.query<{ id: string | null }>(sent, values);
    settleDrafts(
      left,
      rows.map(({ id }) => id),
    );
  }
}

export async function readState(database: Database, key: ConsumerKey, slots: readonly string[]): Promise<StateRow[]> {
  const rows = await database.query<Row>('read state', READ, [...consumerOf(key), slots]);
  return rows.map(rowOf);
}

export async function dueState(
  database: Database,
  key: ConsumerKey,
  before: Date,
  after: Pick<StateRow, 'slot' | 'due'> | undefined,
  { rows: most, bytes }: StateLimits,
): Promise<StateRow[]> {
  const from = after ? [after.due?.getTime() ?? 0, after.slot] : ['-Infinity', ''];
  const values = [...consumerOf(key), most, bytes, before.getTime(), ...from];
  const rows = await database.query<Row>('read what is due', DUE, values);
  return rows.map(rowOf);
}

export async function listState(
  database: Database,
  key: ConsumerKey,
  after: string | undefined,
  { rows: most, bytes }: StateLimits,
): Promise<StatePage> {
  const values = [...consumerOf(key), most, bytes, after ?? ''];
  const found = await database.query<Row & { found: number }>('list state', LIST, values);
  const last = found.at(-1);
  return { rows: found.map(rowOf), ...(last && found.length < last.found && { next: last.slot }) };
}

/** Removes the rows of consumers that were removed, also by processes that ended in the middle, or that know of no rows. */
export async function removeOrphanedRows(database: Database, stream: string): Promise<void> {
  for (let count = 1; count > 0;) {
    const [gone] = await database.query<{ count: number }>('remove state', REMOVE_ORPHANS, [stream, ORPHANS_CHUNK]);
    count = gone?.count ?? 0;
  }
}

function rowOf({ slot, due, value }: Row): StateRow {
  return { slot, value, ...(due !== null && { due: new Date(due) }) };
}
