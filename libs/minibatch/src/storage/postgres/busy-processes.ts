import { BACKGROUND_CLOCK, delay, LONGEST_TIMER } from '../../common/clock.js';
import type { PostgresPool } from './pool.js';
import { sqlStateOf } from './store-errors.js';

/** Between two statements. */
const AT_REST = `('idle', 'idle in transaction', 'idle in transaction (aborted)')`;
const ASK = `
  select pid, pg_backend_pid() as own from pg_stat_activity
  where pid = pg_backend_pid() or (pid = any($1) and state is not null and state not in ${AT_REST})`;

interface Row {
  readonly pid: number;
  readonly own: number;
}

/**
 * Asks the server which of its processes are carrying out a statement, on a new connection: those of the pool may all be in use, or gone
 * without a word. Undefined: the server is there and does not say, or something between pools connections, so that the numbers say nothing.
 *
 * @param patience milliseconds
 * @throws what the driver throws if the server does not answer within the patience
 */
export async function busyProcesses(
  { Client, options }: PostgresPool,
  patience: number,
  processes: readonly number[],
): Promise<ReadonlySet<number> | undefined> {
  // A pool of another driver: its connections can't be told apart, or broken.
  if (Client === undefined) return undefined;
  const client = new Client({
    ...options,
    ...passwordOf(options),
    connectionTimeoutMillis: Math.min(patience, LONGEST_TIMER),
  });
  client.on('error', () => undefined);
  const over = new AbortController();
  const silent = delay(BACKGROUND_CLOCK, 2 * patience, over.signal).then(() => Promise.reject(new Error('no answer')));
  silent.catch(() => undefined);
  try {
    const asked = client.connect().then(() => client.query({ text: ASK, values: [processes] }));
    asked.catch(() => undefined);
    const rows = (await Promise.race([asked, silent])).rows as readonly Row[];
    const own = rows[0]?.own;
    if (own === undefined || own !== client.processID) return undefined;
    return new Set(rows.map(({ pid }) => pid).filter((pid) => pid !== own));
  } catch (error) {
    // It has answered, if only with a refusal.
    if (sqlStateOf(error) !== undefined) return undefined;
    throw error;
  } finally {
    over.abort();
    client.end().catch(() => undefined);
    client.connection?.stream?.destroy();
  }
}

/** The pool hides it from those who list its options. */
function passwordOf(options: object | undefined): object {
  return options && 'password' in options ? { password: options.password } : {};
}
