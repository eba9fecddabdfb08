import pg from 'pg';

/** Statements of all clients of this process but those that are made by `uncounted`. */
let statements = 0;
const { value: query } = Object.getOwnPropertyDescriptor(pg.Client.prototype, 'query');
pg.Client.prototype.query = function counted(...args) {
  if (!this.uncounted) statements += 1;
  return query.apply(this, args);
};

/**
 * What both PostgreSQL subjects say of themselves. 20,000 messages in windows are gone in a fifth of a second; appended one after the other, each
 * waits for the disk.
 */
export const PROFILE = {
  needs: ['postgres'],
  durability: 'synced to disk before the append resolves',
  scale: ({ size, mode }) => (size === undefined ? (mode === 'one' ? 0.25 : 1) : 3),
  share: '300 % in windows, 25 % one by one',
};

/** Counts the statements of this process from now on; a prepared statement counts once however many messages the protocol takes for it. */
export function statementMeter() {
  let before = statements;
  return {
    get total() {
      return statements - before;
    },
    reset() {
      before = statements;
    },
  };
}

/** A connected client for what the benchmark itself wants to know. */
export async function uncounted(connectionString) {
  const client = new pg.Client({ connectionString });
  client.uncounted = true;
  await client.connect();
  return client;
}

/** A pool that says what goes wrong on a connection that nobody uses. */
export function openPool(connectionString) {
  const pool = new pg.Pool({ connectionString });
  pool.on('error', (error) => console.error(`PostgreSQL: ${error.message}`));
  return pool;
}
