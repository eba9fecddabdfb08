import type { SweepResult, SweepTimes } from '../stream-store.interface.js';
import type { Database } from './database.js';
import { leaving, REDRIVEN, removeLeftovers, removeOrphans } from './message-removal.js';
import { statement, STREAM } from './sql.js';
import { removeOrphanedRows } from './state.js';

/** Records that one statement removes. */
const SWEEP_CHUNK = 5_000;
const EXPIRE_CHUNK = 1_000;

const sweeping = (table: string) =>
  statement(`with swept as (delete from minibatch.${table} where ctid = any(array(
      select ctid from minibatch.${table} where stream = ${STREAM} and settled < $2 limit ${SWEEP_CHUNK})) returning 1)
    select count(*)::int as count from swept`);
const TOMBSTONES = sweeping('dedupe');
const KEPT_MESSAGES = sweeping('kept_message');
const KEPT_WINDOWS = sweeping('kept_window');

/** The lock: once a group is registered, the messages are the group's. */
const EXPIRE = statement(
  `with
  unused as materialized (select id, cleared_to from minibatch.stream where name = $1 and groups = '{}' for share),
  gone as (select m.partition, m.id from minibatch.message m, unused where m.stream = ${STREAM} and (m.flags & ${REDRIVEN}) = 0
    and (m.id <= unused.cleared_to or m.created < $3) limit ${EXPIRE_CHUNK}),
  ${leaving('$2::float8', 'false')}
  select count(*)::int as count from left_buffer`,
  { replanned: true },
);

export async function sweep(
  database: Database,
  stream: string,
  { tombstones, kept }: SweepTimes,
): Promise<SweepResult> {
  const run = async (statement: typeof TOMBSTONES, before: Date | undefined): Promise<number> => {
    for (let total = 0; before !== undefined;) {
      const [swept] = await database.query<{ count: number }>('sweep', statement, [stream, before.getTime()]);
      total += swept?.count ?? 0;
      if ((swept?.count ?? 0) < SWEEP_CHUNK) return total;
    }
    return 0;
  };
  const result = {
    tombstones: await run(TOMBSTONES, tombstones),
    messages: await run(KEPT_MESSAGES, kept),
    windows: await run(KEPT_WINDOWS, kept),
  };
  // What was left because a process ended in the middle.
  await removeLeftovers(database, stream);
  await removeOrphans(database, stream);
  await removeOrphanedRows(database, stream);
  return result;
}

export async function expire(database: Database, stream: string, before: Date | undefined): Promise<number> {
  for (let total = 0; ;) {
    const values = [stream, Date.now(), before?.getTime() ?? '-Infinity'];
    const [expired] = await database.query<{ count: number }>('remove expired messages', EXPIRE, values);
    if (!expired || expired.count === 0) return total;
    total += expired.count;
  }
}
