import type { Database } from './database.js';
import { statement } from './sql.js';

const FIND = statement(`select to_regclass('minibatch.message_time') is not null as exists`);
/** Appends wait while the index is built. */
const CREATE = `set local lock_timeout = '10s';
  create index if not exists message_time on minibatch.message (stream, partition, created, id);`;

/**
 * Makes the index for reads by time. Only the first consumer of a database that reads by time costs it; without such consumers every
 * append would pay for it in vain. Where it can't be made, the server sorts.
 */
export async function ensureTimeOrder(database: Database): Promise<void> {
  const [index] = await database.query<{ exists: boolean }>('look for an index', FIND, []);
  if (index?.exists) return;
  await database.transaction('create an index', (queries) => queries.script(CREATE)).catch(() => undefined);
}
