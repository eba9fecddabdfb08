import type { Database } from './database.js';
import { statement, STREAM } from './sql.js';

/** Partitions and ids need not be paired: an id is given once. */
const IS_GONE =
  'x.partition = any(array(select distinct partition from gone)) and x.id = any(array(select id from gone))';

/**
 * The common table expressions by which messages leave the buffer. A message that a group wants kept goes to the kept ones, a dedupe id
 * becomes a tombstone, and the marks of the groups go with the message.
 *
 * Whether it is kept is read before the marks are removed: of two statements that remove the same message, only the one that gets its
 * row does all this.
 *
 * None of them joins: a server that has analyzed the tables while they were empty would compare every row with every other. Arrays and
 * scalar subqueries always lead it to the rows by their key, and so does a lateral subquery that cannot be pulled up (`offset 0`). Their
 * statements are `replanned`.
 *
 * @param at SQL of the time
 * @param keep SQL that says whether all of them are kept
 * @param which a condition on the messages `x` of the stream. It names their partition and ids, so that the server need not read all.
 * Otherwise those leave that the expression `gone` before it names.
 */
export function leaving(at: string, keep: string, which = IS_GONE): string {
  return `
  left_buffer as (delete from minibatch.message x where x.stream = ${STREAM} and ${which}
    returning x.id, x.partition, x.created, x.flags, x.dedupe, x.body),
  now_kept as (insert into minibatch.kept_message (stream, id, partition, settled, created, body)
    select ${STREAM}, l.id, l.partition, ${at}, l.created, l.body from left_buffer l
    where l.flags & ${REPLAYED} = 0 and (${keep} or (select 1 from minibatch.done d
      where d.stream = ${STREAM} and d.partition = l.partition and d.id = l.id and d.kept limit 1) is not null)
    on conflict do nothing),
  unmarked as (delete from minibatch.done where ctid = any(array(
    select d.ctid from left_buffer l, lateral (select d.ctid from minibatch.done d
      where d.stream = ${STREAM} and d.partition = l.partition and d.id = l.id offset 0) d))),
  tombstones as (update minibatch.dedupe e set settled = ${at}
    where e.stream = ${STREAM} and e.key = any(array(select dedupe from left_buffer where dedupe is not null)))`;
}

/** Flags of an encoded message: see `encoded-message.ts`. */
export const DEDUPED = 1;
export const REDRIVEN = 2;
export const REPLAYED = 4;

const CHUNK = 1_000;

const LEFTOVERS = statement(
  `with
  groups as (select groups as names from minibatch.stream where name = $1),
  gone as (select d.partition, d.id from minibatch.done d, groups
    where d.stream = ${STREAM} and not d.former and d.grp = any(groups.names)
    group by d.partition, d.id having count(*) = (select cardinality(names) from groups) limit ${CHUNK}),
  ${leaving('$2::float8', 'false')}
  select count(*)::int as count from left_buffer`,
  { replanned: true },
);
const ORPHANS = statement(`delete from minibatch.done m where stream = ${STREAM} and (
  select 1 from minibatch.message x where x.stream = m.stream and x.partition = m.partition and x.id = m.id limit 1) is null`);

/** Removes messages that every group of the stream has committed: one of them has waited for a group that is gone. */
export async function removeLeftovers(database: Database, stream: string): Promise<void> {
  for (let count = 1; count > 0;) {
    const [left] = await database.query<{ count: number }>('remove messages', LEFTOVERS, [stream, Date.now()]);
    count = left?.count ?? 0;
  }
}

/** Removes the marks of messages that left while one of their groups settled them a second time. */
export async function removeOrphans(database: Database, stream: string): Promise<void> {
  await database.query('remove marks', ORPHANS, [stream]);
}
