import { asReplayed } from '../encoded-message.js';
import type { KeptRange } from '../stream-store.interface.js';
import type { Database } from './database.js';
import { numberArray, afterNumber, untilNumber } from './ids.js';
import { REDRIVEN, REPLAYED } from './message-removal.js';
import { statement } from './sql.js';

/** Kept messages of one transaction, and their bytes. */
const CHUNK = 1_000;
const CHUNK_BYTES = 16 * 1024 * 1024;

interface KeptRow {
  readonly id: number;
  readonly created: number;
  readonly partition: number;
  readonly body: Buffer;
}

const LAST = statement(`select max(id) as last from minibatch.kept_message
  where stream = (select id from minibatch.stream where name = $1)`);
/** A copy that the group has not committed. Scalar subqueries, for the reason of `markOf`. */
const OPEN_COPY = `(select 1 from minibatch.message c where c.stream = $1 and c.original = m.id and (
  select 1 from minibatch.done d where d.stream = $1 and d.partition = c.partition and d.id = c.id and d.grp = $2 and not d.former limit 1)
  is null limit 1)`;
/** Locked: of two replays at the same time the second one sees the copies of the first. */
const LOCK = statement('select id, to_json(groups) as groups from minibatch.stream where name = $1 for update');
const PICK = statement(`select id, created, partition, body from (
    select k.*, sum(octet_length(body)) over (order by id) - octet_length(body) as before from (
      select id, created, partition, body from minibatch.kept_message m where stream = $1 and id > $3 and id <= $4
        and created >= $5 and created < $6 and ${OPEN_COPY} is null
      order by id limit ${CHUNK}) k) b
  where before < ${CHUNK_BYTES} order by id`);
const COPY = statement(`with numbered as materialized (select c.*, nextval('minibatch.message_id') as number
    from (select * from unnest($4::bigint[], $5::float8[], $6::int[], $7::bytea[]) with ordinality
      u(original, created, partition, body, n) where pg_current_xact_id() is not null order by n) c),
  copies as (insert into minibatch.message (id, created, original, stream, partition, flags, body)
    select number, created, original, $1, partition, ${REDRIVEN | REPLAYED}, body from numbered)
  insert into minibatch.done (stream, partition, id, grp, kept)
  select $1, c.partition, c.number, o.name, false from numbered c, unnest($3::text[]) o(name) where o.name <> $2`);

/** Puts copies of kept messages into the buffer, for one group. Resolves with how many. */
export async function replayMessages(
  database: Database,
  stream: string,
  group: string,
  { from, to, created }: KeptRange,
): Promise<number> {
  const [kept] = await database.query<{ last: number | null }>('replay', LAST, [stream]);
  if (!kept || kept.last === null) return 0;
  // Consumers keep more in the meantime.
  const until = Math.min(kept.last, to === undefined ? kept.last : untilNumber(to) - 1);
  const times = [created?.from?.getTime() ?? '-Infinity', created?.to?.getTime() ?? 'Infinity'];
  let total = 0;
  for (let after = from === undefined ? 0 : afterNumber(from) - 1; ;) {
    const start = after;
    const step = await database.transaction('replay', async (queries) => {
      const [locked] = await queries.query<{ id: number; groups: readonly string[] }>(LOCK, [stream]);
      // The stream was dropped in the meantime, or the group was removed.
      if (!locked?.groups.includes(group)) return undefined;
      const rows = await queries.query<KeptRow>(PICK, [locked.id, group, start, until, ...times]);
      if (rows.length === 0) return undefined;
      await queries.query(COPY, [
        locked.id,
        group,
        locked.groups,
        numberArray(rows.map(({ id }) => id)),
        numberArray(rows.map((row) => row.created)),
        numberArray(rows.map(({ partition }) => partition)),
        rows.map(({ id, body }) => asReplayed(body, id)),
      ]);
      return { copies: rows.length, last: rows.at(-1)?.id ?? until };
    });
    if (step === undefined) return total;
    total += step.copies;
    after = step.last;
  }
}
