import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/** Turns every failure into a coded error. `what` completes "PostgreSQL could not …". */
export function asStoreError(what: string, error: unknown): MinibatchError {
  if (error instanceof MinibatchError) return error;
  return new MinibatchError(
    codeOf(error, ErrorCode.StoreUnavailable),
    `PostgreSQL could not ${what}: ${reasonOf(error)}. ${advice(error)}`,
    {
      cause: error,
      details: { operation: what, sqlState: sqlStateOf(error), ...(isOutOfReach(error) && { outOfReach: true }) },
    },
  );
}

/** The code of an append that has failed with this. */
export function appendCodeOf(error: unknown): ErrorCode {
  if (error instanceof MinibatchError && error.code !== ErrorCode.StoreUnavailable) return error.code;
  return codeOf(error, ErrorCode.AppendFailed);
}

function codeOf(error: unknown, otherwise: ErrorCode): ErrorCode {
  if (isDenied(error)) return ErrorCode.StoreDenied;
  return isRefused(error) ? ErrorCode.StoreRefused : otherwise;
}

/** An attempt to connect to several addresses fails with an error that has no message of its own. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ');
  return messageOf(error);
}

/** The error that the server has sent, which a library between the driver and the application may have wrapped; else the error itself. */
export function serverErrorOf(error: unknown): unknown {
  let inner = error;
  for (let depth = 0; depth < MOST_WRAPPERS; depth += 1) {
    if (sqlStateOf(inner) !== undefined) return inner;
    if (!(inner instanceof Error) || inner.cause === undefined) break;
    inner = inner.cause;
  }
  return error;
}

/** The five characters by which the server names an error; undefined for an error that no server has sent. */
export function sqlStateOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('severity' in error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

const MOST_WRAPPERS = 4;
const INSUFFICIENT_PRIVILEGE = '42501';
const SIGN_IN_STATES = new Set(['28000', '28P01']);
const READ_ONLY = '25006';
const LOCK_NOT_AVAILABLE = '55P03';
/** A table or a schema that is not there. */
const MISSING = new Set(['42P01', '3F000']);

const OTHER_TABLES =
  'The tables are not those of the store, or some of them were dropped or emptied: give the store a schema of its own (option `schema`), or drop the ' +
  'schema, so that the store makes all tables again';
const ENCODING =
  "The database can't store this text: its encoding must be UTF8. Create another database with `encoding 'UTF8'`, or use names of ASCII characters";
const AGAIN = 'the call can be repeated unchanged';
const AGAIN_LATER = 'The call can be repeated unchanged after that';

const PREPARED =
  'Set `prepared: false`: something between the store and the server, such as PgBouncer before 1.21, pools transactions';

const ADVICE: Readonly<Record<string, string>> = {
  [INSUFFICIENT_PRIVILEGE]:
    'The database user lacks a right: grant it the use of the schema and select, insert, update and delete on its tables',
  '28000': 'Check the user and the password of the connection, and pg_hba.conf',
  '28P01': 'Check the user and the password of the connection, and pg_hba.conf',
  '53100': `The disk of the server is full: free some space; ${AGAIN}`,
  [READ_ONLY]:
    'The server accepts no writes, as a standby does, or a role or database with `default_transaction_read_only`: connect to the primary; ' +
    AGAIN,
  '3D000': 'Create the database, or correct its name in the connection string',
  '22021': ENCODING,
  '22P05': ENCODING,
  '42P01':
    'Tables of the store are missing: restart with `migrate: true`, or create them with the SQL of postgresSchema(); if only some are missing, ' +
    'drop the schema first. A session must be on the database that the store uses',
  '3F000':
    'Tables of the store are missing: restart with `migrate: true`, or create them with the SQL of postgresSchema()',
  '42P07': OTHER_TABLES,
  '42703': OTHER_TABLES,
  '42804': OTHER_TABLES,
  '42883': OTHER_TABLES,
  '26000': PREPARED,
  '42P05': PREPARED,
  '25P02': 'An earlier error of the application has aborted its transaction: handle that one',
  [LOCK_NOT_AVAILABLE]:
    'Another transaction held a lock for longer than `lock_timeout` of the role or the database allows: end long transactions, or raise it; ' +
    AGAIN,
  '57014':
    'The server ended the statement after `statement_timeout` of the role or the database, or because somebody cancelled it: set ' +
    `\`alter role … set statement_timeout\` to 10 s or more; ${AGAIN}`,
};

export function advice(error: unknown): string {
  if (error instanceof MinibatchError) return AGAIN_LATER;
  const known = ADVICE[sqlStateOf(error) ?? ''];
  if (known !== undefined) return known;
  if (isPoolEnded(error))
    return 'The application has ended the pool: end it after the application, or the store, is closed';
  if (isRefused(error)) return 'See the cause; the same call would fail again';
  if (NO_CONNECTION.test(messageOf(error)))
    return `Check that the server is running and reachable, and that the pool has connections to spare; ${AGAIN}`;
  if (isOutOfReach(error)) return `Check that the server is running and reachable; ${AGAIN}`;
  return `See the cause; ${AGAIN}`;
}

/** The server does not let this user sign in, or do this. To wait does not help. */
export function isDenied(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state !== undefined && (state === INSUFFICIENT_PRIVILEGE || SIGN_IN_STATES.has(state));
}

/** Classes of states that say that a statement, a value or a name is at fault, so that the server would refuse the same call again. */
const REFUSALS = new Set([
  '0A', // feature_not_supported
  '22', // data_exception
  '26', // invalid_sql_statement_name
  '3D', // invalid_catalog_name
  '3F', // invalid_schema_name
  '42', // syntax_error_or_access_rule_violation
]);

/** To wait does not help: somebody has to change something first. */
export function isRefused(error: unknown): boolean {
  const state = sqlStateOf(error);
  if (state === undefined) return isPoolEnded(error);
  return REFUSALS.has(state.slice(0, 2)) && !isDenied(error);
}

/** Text of the driver, which gives it no code. */
function isPoolEnded(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('Cannot use a pool after calling end');
}

/** Tables of the store are not there. */
export function isMissing(error: unknown): boolean {
  return MISSING.has(sqlStateOf(error) ?? '');
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
  return sqlStateOf(error) === LOCK_NOT_AVAILABLE;
}

/** States of a server that ends the connection, or takes none now. */
const LEAVING = new Set([
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
  '25P03', // idle_in_transaction_session_timeout
  '25P04', // transaction_timeout
  '53300', // too_many_connections
  READ_ONLY, // a primary that has become a standby
]);

/** Texts of the driver for a connection that is gone or was not made; it gives them no code. */
const NO_CONNECTION = /timeout exceeded when trying to connect|connections of the pool/i;
const LOST =
  /connection terminated|connection ended|client has encountered a connection error|not queryable|was closed|connection error/i;
const SYSTEM_CODES = /^(E(CONN|PIPE|HOST|NET|TIMEDOUT|AI_|NOT)|E[A-Z]+UNREACH)/;

/** The server does not answer, or accepts nothing now; it may be back soon. */
export function isOutOfReach(error: unknown): boolean {
  const state = sqlStateOf(error);
  if (state !== undefined) return LEAVING.has(state) || state.startsWith('08');
  if (error instanceof AggregateError) return error.errors.some(isOutOfReach);
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? String(error.code) : '';
  return SYSTEM_CODES.test(code) || NO_CONNECTION.test(error.message) || LOST.test(error.message);
}

/** The server has answered with an error, and has undone the statement: nothing of it is stored. */
export function isRefusal(error: unknown): boolean {
  const state = sqlStateOf(error);
  // A shutdown may hit a statement whose commit is done.
  return state !== undefined && !state.startsWith('57P') && !state.startsWith('08');
}
