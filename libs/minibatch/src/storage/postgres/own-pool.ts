import { BACKGROUND_CLOCK, delay, LONGEST_TIMER } from '../../common/clock.js';
import { loadPackage } from '../../common/missing-package.js';
import type { PostgresPool } from './pool.js';

/** How long the server gets to answer running statements and to close its connections; milliseconds. */
const FAREWELL = 1_000;
/** How long the end waits for what happens after that; milliseconds. */
const LAST = 1_500;

/** A connection on which nothing is said is asked after this time whether it is still there; milliseconds. */
const KEEP_ALIVE = 10_000;

/** Those of the store's options that say where the database is. */
export interface PoolOptions {
  readonly pool?: PostgresPool;
  readonly connectionString?: string;
  readonly connection?: Readonly<Record<string, unknown>>;
}

export interface UsedPool {
  readonly pool: PostgresPool;
  /** Resolves within `LAST`. */
  end(): Promise<void>;
}

/** What is used of a client of `pg`; its types don't know the socket. */
interface Client {
  readonly connection?: { readonly stream?: { destroy(): void } };
}

/**
 * The pool of the application, which it ends itself, or one of the store's own.
 *
 * @param patience milliseconds
 */
export async function poolOf(options: PoolOptions, patience: number): Promise<UsedPool> {
  const { pool: given, connectionString, connection } = options;
  if (given !== undefined) return { pool: given, end: async () => undefined };
  const { default: pg } = await loadPackage('postgresStore', 'pg', () => import('pg'));
  const pool = new pg.Pool({
    ...(connectionString !== undefined && { connectionString }),
    // The driver sets a timer of its own.
    connectionTimeoutMillis: Math.min(patience, LONGEST_TIMER),
    application_name: 'nestjs-minibatch',
    keepAlive: true,
    // The operating system's own default is two hours.
    keepAliveInitialDelayMillis: KEEP_ALIVE,
    ...connection,
  });
  // Stays after the end: a server that stops meanwhile ends connections that are still being closed.
  pool.on('error', () => undefined);
  const clients = new Set<Client>();
  pool.on('connect', (client) => {
    // The server may end a connection in the same moment in which the pool hands it out.
    client.on('error', () => undefined);
    clients.add(client as Client);
  });
  pool.on('remove', (client) => clients.delete(client as Client));
  return { pool, end: () => endPool(pool, clients) };
}

/**
 * `pool.end()` waits until each statement is answered, and a socket stays until the server has closed it, too. A server that has stopped
 * to answer, frozen or behind a broken network, does neither: it would keep the store from closing, and the process from ending.
 */
async function endPool(pool: { end(): Promise<void> }, clients: ReadonlySet<Client>): Promise<void> {
  BACKGROUND_CLOCK.schedule(FAREWELL, () => {
    for (const { connection } of clients) connection?.stream?.destroy();
  });
  const ended = new AbortController();
  const end = pool.end().finally(() => ended.abort());
  // A connection that is just being opened takes as long as its own time limit.
  await Promise.race([end, delay(BACKGROUND_CLOCK, LAST, ended.signal)]);
}
