import { unknownStream } from '../../errors/store-faults.js';
import { grown } from '../partitions.js';
import {
  asksConsumers,
  type NewStream,
  type StreamGrowth,
  type StreamInfo,
  type StreamUpdate,
  type WindowRequest,
} from '../stream-store.interface.js';
import { changedRequests } from '../window-requests.js';
import type { Database, Queries } from './database.js';
import { statement } from './sql.js';

/** A stream as `COLUMNS` reads it. */
export interface StreamRow {
  readonly name: string;
  readonly status: StreamInfo['status'];
  readonly created: number;
  readonly closed: number | null;
  readonly paused: boolean;
  readonly flushes: number;
  readonly clearings: number;
  readonly asked: number;
  readonly requests: readonly WindowRequest[];
  readonly groups: readonly string[];
  readonly partitions: number | null;
  /** Times as milliseconds. */
  readonly growths: readonly { readonly from: number; readonly at: number }[];
}

export const COLUMNS = `stream.name, stream.status, stream.created, stream.closed, stream.paused, stream.flushes, stream.clearings,
  stream.asked, stream.requests, to_json(stream.groups) as groups, stream.partitions, stream.growths`;

const ENSURE = statement(`insert into minibatch.stream (name, status, created, partitions) values ($1, 'open', $2, $3)
  on conflict (name) do update set status = 'open' where stream.status = 'init' returning ${COLUMNS}`);
const CREATE = statement(`insert into minibatch.stream (name, status, created)
  select distinct name, 'init', $2::float8 from unnest($1::text[]) u(name) order by name on conflict do nothing`);
const DESCRIBE = statement(`select ${COLUMNS} from minibatch.stream where name = $1`);
const LIST = statement(`select ${COLUMNS} from minibatch.stream
  where $1::text[] is null or name = any($1) order by name`);
const LOCK = statement(`select ${COLUMNS} from minibatch.stream where name = $1 for update`);
const UPDATE = statement(`update minibatch.stream set
  status = $2, closed = $3, paused = coalesce($4, paused), requests = $5,
  flushes = flushes + $6, asked = asked + $7, clearings = clearings + $8,
  cleared_to = case when $8 = 0 then cleared_to else nextval('minibatch.message_id') end
  where name = $1 returning ${COLUMNS}`);
const GROW = statement('update minibatch.stream set partitions = $2, growths = $3 where name = $1');
/** Of all groups in all partitions. */
export const ADD_CONSUMERS = statement(`insert into minibatch.consumer (stream, grp, partition, fence, first_fence)
  select s.id, g.name, p.number, s.removed_fence, s.removed_fence
  from minibatch.stream s, unnest(s.groups) g(name), generate_series(0, coalesce(s.partitions, 1) - 1) p(number)
  where s.name = $1 on conflict do nothing`);
const FORGET = statement('delete from minibatch.stream where name = $1 returning id');
/** In steps, so that no lock is held long and the log of the server does not grow by all of it at once. */
const DROPPED_CHUNK = 10_000;
const TABLES = [
  'consumer',
  'claim',
  'done',
  'message',
  'dedupe',
  'kept_message',
  'kept_window',
  'dead_letter',
  'checkpoint',
  'state',
  'note',
] as const;
const DROP = TABLES.map((table) =>
  statement(`with gone as (delete from minibatch.${table} where ctid = any(array(
    select ctid from minibatch.${table} where stream = $1 limit ${DROPPED_CHUNK})) returning 1)
  select count(*)::int as count from gone`),
);

export async function ensureStream(database: Database, name: string, made: NewStream = {}): Promise<StreamInfo> {
  const values = [name, Date.now(), made.partitions ?? null];
  const [changed] = await database.query<StreamRow>('create a stream', ENSURE, values);
  // There was one, and it is open or closed already.
  return changed ? infoOf(changed) : ((await describeStream(database, name)) ?? ensureStream(database, name, made));
}

/** Makes streams that are not there, without opening them. */
export async function createStreams(queries: Queries, names: readonly string[]): Promise<void> {
  await queries.query(CREATE, [names, Date.now()]);
}

export async function describeStream(database: Database, name: string): Promise<StreamInfo | undefined> {
  const [row] = await database.query<StreamRow>('read a stream', DESCRIBE, [name]);
  return row && infoOf(row);
}

export async function listStreams(database: Database, names: readonly string[] | undefined): Promise<StreamInfo[]> {
  return (await database.query<StreamRow>('list streams', LIST, [names ?? null])).map(infoOf);
}

/** @throws UnknownStream */
export function updateStream(database: Database, name: string, change: StreamUpdate): Promise<StreamInfo> {
  return database.transaction('change a stream', async (queries) => {
    const [before] = await queries.query<StreamRow>(LOCK, [name]);
    if (!before) throw unknownStream(name);
    if (change.grow) await grow(queries, before, change.grow);
    const status = change.status ?? before.status;
    const [after] = await queries.query<StreamRow>(UPDATE, [
      name,
      status,
      status === 'closed' ? (before.closed ?? Date.now()) : null,
      change.paused ?? null,
      JSON.stringify(changedRequests(before.requests, change)),
      change.flush ? 1 : 0,
      asksConsumers(change) ? 1 : 0,
      change.clear ? 1 : 0,
    ]);
    return infoOf(after ?? before);
  });
}

/** In the transaction that has locked the row. */
async function grow(queries: Queries, row: StreamRow, growth: StreamGrowth): Promise<void> {
  const { partitions, growths = [] } = grown(row.name, infoOf(row), growth);
  const times = growths.map(({ from, at }) => ({ from, at: at.getTime() }));
  await queries.query(GROW, [row.name, partitions, JSON.stringify(times)]);
  await queries.query(ADD_CONSUMERS, [row.name]);
}

/** The stream is gone with its row; everything else names its number, which is never given again. */
export async function dropStream(database: Database, name: string): Promise<void> {
  const [stream] = await database.query<{ id: number }>('drop a stream', FORGET, [name]);
  if (!stream) return;
  for (const drop of DROP) {
    for (let count = DROPPED_CHUNK; count === DROPPED_CHUNK;) {
      const [dropped] = await database.query<{ count: number }>('drop a stream', drop, [stream.id]);
      count = dropped?.count ?? 0;
    }
  }
}

export function infoOf(row: StreamRow): StreamInfo {
  const { name, status, created, closed, groups, paused, flushes, clearings, requests, asked } = row;
  const { partitions, growths } = row;
  return {
    name,
    status,
    created: new Date(created),
    ...(closed !== null && { closed: new Date(closed) }),
    groups,
    paused,
    flushes,
    ...(clearings > 0 && { clearings }),
    ...(requests.length > 0 && { requests }),
    ...(asked > 0 && { asked }),
    ...(partitions !== null && { partitions }),
    ...(growths.length > 0 && { growths: growths.map(({ from, at }) => ({ from, at: new Date(at) })) }),
  };
}
