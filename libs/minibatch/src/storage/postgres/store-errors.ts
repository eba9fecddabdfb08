import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/** Turns every failure into a coded error. `what` completes "PostgreSQL could not …". */
export function asStoreError(what: string, error: unknown): MinibatchError {
  if (error instanceof MinibatchError) return error;
  return new MinibatchError(
    isDenied(error) ? ErrorCode.StoreDenied : ErrorCode.StoreUnavailable,
    `PostgreSQL could not ${what}: ${reasonOf(error)}. ${advice(error)}`,
    {
      cause: error,
      details: { operation: what, sqlState: sqlStateOf(error), ...(isOutOfReach(error) && { outOfReach: true }) },
    },
  );
}

/** An attempt to connect to several addresses fails with an error that has no message of its own. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ');
  return messageOf(error);
}

/** The five characters by which the server names an error; undefined for an error that no server has sent. */
export function sqlStateOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('severity' in error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

const INSUFFICIENT_PRIVILEGE = '42501';
const SIGN_IN_STATES = new Set(['28000', '28P01']);
const READ_ONLY = '25006';
const DISK_FULL = '53100';
/** A table, a schema or a column that is not there. */
const UNDEFINED = new Set(['42P01', '3F000', '42703']);

export function advice(error: unknown): string {
  const state = sqlStateOf(error);
  if (state === INSUFFICIENT_PRIVILEGE)
    return 'The database user lacks a right: grant it the use of the schema and select, insert, update and delete on its tables';
  if (state !== undefined && SIGN_IN_STATES.has(state))
    return 'Check the user and the password of the connection, and pg_hba.conf';
  if (state === DISK_FULL) return 'The disk of the server is full: free some space; the call can be repeated unchanged';
  if (state === READ_ONLY)
    return 'The server accepts no writes, as a standby does: connect to the primary; the call can be repeated unchanged';
  if (state !== undefined && UNDEFINED.has(state))
    return 'Tables of the store are missing: restart with `migrate: true`, or create them with the SQL of postgresSchema()';
  if (isOutOfReach(error)) return 'Check that the server is running and reachable; the call can be repeated unchanged';
  return 'See the cause; the call can be repeated unchanged';
}

/** The server does not let this user sign in, or do this. To wait does not help. */
export function isDenied(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state !== undefined && (state === INSUFFICIENT_PRIVILEGE || SIGN_IN_STATES.has(state));
}

const CONFLICTS = new Set([
  '40001', // serialization_failure
  '40P01', // deadlock_detected
]);

/** The server has undone the transaction for the sake of another one: run again, it succeeds. */
export function isConflict(error: unknown): boolean {
  return CONFLICTS.has(sqlStateOf(error) ?? '');
}

/** A lock was not free within `lock_timeout`. */
export function isLockTimeout(error: unknown): boolean {
  return sqlStateOf(error) === '55P03';
}

/** States of a server that ends the connection, or takes none now. */
const LEAVING = new Set([
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
  '53300', // too_many_connections
  READ_ONLY, // a primary that has become a standby
]);

/** Texts of the driver for a connection that is gone or was not made; it gives them no code. */
const LOST =
  /connection terminated|connection ended|client has encountered a connection error|timeout exceeded when trying to connect|not queryable|was closed|connection error/i;
const SYSTEM_CODES = /^(E(CONN|PIPE|HOST|NET|TIMEDOUT|AI_|NOT)|E[A-Z]+UNREACH)/;

/** The server does not answer, or accepts nothing now; it may be back soon. */
export function isOutOfReach(error: unknown): boolean {
  const state = sqlStateOf(error);
  if (state !== undefined) return LEAVING.has(state) || state.startsWith('08');
  if (error instanceof AggregateError) return error.errors.some(isOutOfReach);
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? String(error.code) : '';
  return SYSTEM_CODES.test(code) || LOST.test(error.message);
}

/** The server has answered with an error, and has undone the statement: nothing of it is stored. */
export function isRefusal(error: unknown): boolean {
  const state = sqlStateOf(error);
  // A shutdown may hit a statement whose commit is done.
  return state !== undefined && !state.startsWith('57P') && !state.startsWith('08');
}
