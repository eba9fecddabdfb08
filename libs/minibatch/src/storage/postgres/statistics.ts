import type { ConsumerKey, StreamStats } from '../stream-store.interface.js';
import type { Database } from './database.js';
import type { Floors } from './floors.js';
import { numberArray } from './ids.js';
import { type LeaseRow, stateOf } from './leases.js';
import { statement, STREAM } from './sql.js';
import { COLUMNS, infoOf, type StreamRow } from './streams.js';
import { unpackProgress } from './window-codec.js';

/** Of the newest messages of a partition; a consumer that waits for messages has fewer. */
const POLLED = 500;

const POLL = statement(`select coalesce(s.id || '.' || (
    select count(*) || '.' || coalesce(min(id), 0) || '.' || coalesce(max(id), 0) from (
      select m.id from minibatch.message m where m.stream = s.id and m.partition = k.partition and m.id > k.floor
      order by m.id desc limit ${POLLED}) newest), '') as token
  from unnest($1::text[], $2::int[], $3::bigint[]) with ordinality k(stream, partition, floor, n)
  left join minibatch.stream s on s.name = k.stream order by k.n`);
const COUNT = statement(`select count(*)::int as count from (
  (select 1 from minibatch.message where stream = ${STREAM} and partition = 0 and id > $3 limit $2)
  union all (select 1 from minibatch.message where stream = ${STREAM} and partition > 0 limit $2) limit $2) counted`);
const STATS = statement(`with
  wanted as (select * from minibatch.stream where $1::text[] is null or name = any($1)),
  messages as (select m.stream, m.partition, count(*) as count, min(m.created) as oldest
    from minibatch.message m where m.stream = any(array(select id from wanted)) group by m.stream, m.partition),
  marks as (select d.stream, d.partition, d.grp, count(*) as count
    from minibatch.done d join minibatch.message m on m.stream = d.stream and m.partition = d.partition and m.id = d.id
    where d.stream = any(array(select id from wanted)) and not d.former group by d.stream, d.partition, d.grp),
  windows as (select stream, partition, grp, count(*) as count from minibatch.claim
    where stream = any(array(select id from wanted)) group by stream, partition, grp),
  letters as (select stream, count(*) as count from minibatch.dead_letter
    where stream = any(array(select id from wanted)) group by stream)
  select ${COLUMNS},
    coalesce((select sum(m.count) from messages m where m.stream = stream.id), 0)::bigint as buffered,
    (select min(m.oldest) from messages m where m.stream = stream.id) as oldest,
    coalesce((select l.count from letters l where l.stream = stream.id), 0) as letters,
    c.grp, c.partition, c.owner, c.heir, c.fence, c.counter, c.hold_time, c.progress, n.note,
    coalesce(w.count, 0) as windows, coalesce(m.count, 0) - coalesce(k.count, 0) as pending
  from wanted stream
  left join minibatch.consumer c on c.stream = stream.id
  left join minibatch.note n on n.stream = c.stream and n.consumer = c.number
  left join windows w on w.stream = stream.id and w.grp = c.grp and w.partition = c.partition
  left join messages m on m.stream = stream.id and m.partition = c.partition
  left join marks k on k.stream = stream.id and k.grp = c.grp and k.partition = c.partition
  order by stream.name, array_position(stream.groups, c.grp), c.partition`);

interface StatsRow extends StreamRow, LeaseRow {
  readonly buffered: number;
  readonly oldest: number | null;
  readonly letters: number;
  readonly grp: string | null;
  readonly partition: number;
  readonly progress: Buffer | null;
  readonly windows: number;
  readonly pending: number;
  readonly note: string | null;
}

/** All in one snapshot. */
export async function streamStats(database: Database, names: readonly string[] | undefined): Promise<StreamStats[]> {
  const rows = await database.query<StatsRow>('count', STATS, [names ?? null]);
  const byStream = new Map<string, StatsRow[]>();
  for (const row of rows) byStream.set(row.name, [...(byStream.get(row.name) ?? []), row]);
  return [...byStream.values()].flatMap((consumers) => {
    const [stream] = consumers;
    if (!stream) return [];
    return {
      ...infoOf(stream),
      buffered: stream.buffered,
      ...(stream.oldest !== null && { oldest: new Date(stream.oldest) }),
      deadLetters: stream.letters,
      consumers: consumers.flatMap((row) => {
        const { grp, partition, progress, windows, pending, note } = row;
        if (grp === null) return [];
        return {
          group: grp,
          partition,
          lease: stateOf(row),
          progress: unpackProgress(progress),
          openWindows: windows,
          pending,
          ...(note !== null && { note }),
        };
      }),
    };
  });
}

export async function countMessages(database: Database, floors: Floors, stream: string, most: number): Promise<number> {
  const [counted] = await database.query<{ count: number }>('count messages', COUNT, [
    stream,
    most,
    floors.of(stream, 0),
  ]);
  return counted?.count ?? 0;
}

/** A token differs when messages have come: they are few while their consumer waits, or the newest has changed. */
export async function pollTokens(
  database: Database,
  floors: Floors,
  keys: readonly ConsumerKey[],
): Promise<readonly string[]> {
  if (keys.length === 0) return [];
  const rows = await database.query<{ token: string }>('look for messages', POLL, [
    keys.map(({ stream }) => stream),
    keys.map(({ partition }) => partition),
    numberArray(keys.map(({ stream, partition }) => floors.of(stream, partition))),
  ]);
  return rows.map(({ token }) => token);
}
