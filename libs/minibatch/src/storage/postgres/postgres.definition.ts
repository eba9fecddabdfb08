import { checkBoolean, checkDuration, checkKeys, checkText, invalidOption, readKeys } from '../../common/checks.js';
import type { StoreDefinition } from '../store-definition.js';
import { type PostgresStoreOptions, PostgresStreamStore } from './postgres.store.js';

/** The options from the application's own configuration. */
export interface PostgresStoreAsyncOptions {
  /** Nest modules that provide what `inject` names. @default none */
  readonly imports?: readonly unknown[];
  /** Nest tokens; their values are the arguments of `useFactory`. @default none */
  readonly inject?: readonly unknown[];
  /** Returns the options of the store. */
  useFactory(...dependencies: never[]): PostgresStoreOptions | Promise<PostgresStoreOptions>;
}

/**
 * Streams lie in PostgreSQL 13 or later, in a schema of their own: durable, shared by any number of processes, and open to the
 * transactions of the application. Needs the package `pg`.
 *
 * @throws MinibatchError `InvalidOptions`
 * @example
 * ```ts
 * MinibatchModule.forRoot({ store: postgresStore({ connectionString: process.env.DATABASE_URL }) })
 *
 * MinibatchModule.forRoot({
 *   store: postgresStore({
 *     inject: [ConfigService],
 *     useFactory: (config: ConfigService) => ({ connectionString: config.getOrThrow('DATABASE_URL') }),
 *   }),
 * })
 * ```
 */
export function postgresStore(options: PostgresStoreOptions | PostgresStoreAsyncOptions = {}): StoreDefinition {
  readKeys('postgresStore', options, ['useFactory', 'imports', 'inject']);
  if ('useFactory' in options) {
    const { imports, inject } = options;
    return {
      kind: 'postgres',
      ...(imports !== undefined && { imports }),
      ...(inject !== undefined && { inject }),
      useFactory: async (...dependencies) =>
        new PostgresStreamStore(checked(await options.useFactory(...dependencies))),
    };
  }
  checked(options);
  return { kind: 'postgres', useFactory: () => new PostgresStreamStore(options) };
}

const KEYS = ['pool', 'connectionString', 'connection', 'schema', 'migrate', 'notify', 'prepared', 'patience'];
/** Of PostgreSQL's identifiers, in bytes. */
const LONGEST_NAME = 63;

function checked(options: PostgresStoreOptions): PostgresStoreOptions {
  checkKeys('postgresStore', options, KEYS);
  const { pool, connectionString, connection, schema, migrate, notify, prepared, patience } = options;
  if (pool !== undefined) {
    if (typeof pool !== 'object' || pool === null || typeof pool.connect !== 'function') {
      throw invalidOption('postgresStore', 'pool', pool, 'a pool of pg');
    }
    if (connectionString !== undefined || connection !== undefined) {
      throw invalidOption('postgresStore', 'pool', pool, 'a pool, or `connectionString` and `connection`, not both');
    }
  }
  if (connectionString !== undefined) checkText('postgresStore', 'connectionString', connectionString);
  if (schema !== undefined && (typeof schema !== 'string' || !isName(schema))) {
    throw invalidOption(
      'postgresStore',
      'schema',
      schema,
      `a name of 1 to ${LONGEST_NAME} bytes that does not begin with pg_`,
    );
  }
  if (migrate !== undefined) checkBoolean('postgresStore', 'migrate', migrate);
  if (notify !== undefined) checkBoolean('postgresStore', 'notify', notify);
  if (prepared !== undefined) checkBoolean('postgresStore', 'prepared', prepared);
  if (patience !== undefined) checkDuration('postgresStore', 'patience', patience, { min: 0 });
  return options;
}

function isName(schema: string): boolean {
  return (
    schema.length > 0 &&
    Buffer.byteLength(schema) <= LONGEST_NAME &&
    !schema.startsWith('pg_') &&
    !schema.includes('\0')
  );
}
