import type { DeadLetterFilter } from '../stream-store.interface.js';
import type { Database } from './database.js';
import { filterOf, MATCHES } from './dead-letters.js';
import { DEDUPED, REDRIVEN } from './message-removal.js';
import { statement } from './sql.js';

/** Letters of one transaction. */
const CHUNK = 500;
/** As `asRedriven` does. */
const FLAGS = `((get_byte(g.body, 0) & ${255 - DEDUPED}) | ${REDRIVEN})`;

/**
 * The bytes of the messages do not leave the server. The row of the stream is locked, so that no group is registered meanwhile: one that
 * comes later gets the messages, those that are there have no part in them.
 *
 * Letters of a group that is not registered stay.
 */
const REDRIVE = statement(`with
  locked as materialized (select id, groups from minibatch.stream where name = $1 for share),
  picked as materialized (select l.id from minibatch.dead_letter l, locked where ${MATCHES} and l.grp = any(locked.groups) and l.id > $5
    order by l.id limit ${CHUNK}),
  gone as (delete from minibatch.dead_letter d using locked, picked where d.stream = locked.id and d.id = picked.id returning d.*),
  numbered as materialized (select g.*, nextval('minibatch.message_id') as number
    from (select * from gone where pg_current_xact_id() is not null order by id) g),
  back as (insert into minibatch.message (id, created, original, stream, partition, flags, body)
    select g.number, g.created, g.original, g.stream, g.partition, ${FLAGS}, set_byte(g.body, 0, ${FLAGS}) from numbered g),
  marked as (insert into minibatch.done (stream, partition, id, grp, kept)
    select g.stream, g.partition, g.number, o.name, false
    from numbered g, locked, unnest(locked.groups) o(name) where o.name <> g.grp)
  select (select count(*)::int from gone) as count, (select max(id) from picked) as last`);

/** Puts the messages of dead letters back into the buffer, each for its own group. Resolves with how many. */
export async function redriveLetters(database: Database, stream: string, filter: DeadLetterFilter): Promise<number> {
  let total = 0;
  for (let after = 0; ;) {
    const [step] = await database.query<{ count: number; last: number | null }>('redrive dead letters', REDRIVE, [
      ...filterOf(stream, filter),
      after,
    ]);
    if (!step || step.last === null) return total;
    total += step.count;
    after = step.last;
  }
}
