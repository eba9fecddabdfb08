import { invalidOption, readKeys } from '../../common/checks.js';
import type { StoreDefinition } from '../store-definition.js';
import { type LmdbStoreOptions, LmdbStreamStore } from './lmdb.store.js';

/** The options from the application's own configuration. */
export interface LmdbStoreAsyncOptions {
  /** Nest modules that provide what `inject` names. @default none */
  readonly imports?: readonly unknown[];
  /** Nest tokens; their values are the arguments of `useFactory`. @default none */
  readonly inject?: readonly unknown[];
  /** Returns the options of the store. */
  useFactory(...dependencies: never[]): LmdbStoreOptions | Promise<LmdbStoreOptions>;
}

/**
 * Streams lie in an embedded LMDB database: no server, durable, shared by the processes of one host. Needs the package
 * `lmdb`.
 *
 * @throws MinibatchError `InvalidOptions`
 * @example
 * ```ts
 * MinibatchModule.forRoot({ store: lmdbStore({ path: './data/streams' }) })
 *
 * MinibatchModule.forRoot({
 *   store: lmdbStore({
 *     inject: [ConfigService],
 *     useFactory: (config: ConfigService) => ({ path: config.getOrThrow('STREAMS_PATH') }),
 *   }),
 * })
 * ```
 */
export function lmdbStore(options: LmdbStoreOptions | LmdbStoreAsyncOptions): StoreDefinition {
  readKeys('lmdbStore', options, ['useFactory', 'imports', 'inject']);
  if ('useFactory' in options) {
    const { imports, inject } = options;
    return {
      kind: 'lmdb',
      ...(imports !== undefined && { imports }),
      ...(inject !== undefined && { inject }),
      useFactory: async (...dependencies) => new LmdbStreamStore(checked(await options.useFactory(...dependencies))),
    };
  }
  checked(options);
  return { kind: 'lmdb', useFactory: () => new LmdbStreamStore(options) };
}

function checked(options: LmdbStoreOptions): LmdbStoreOptions {
  readKeys('lmdbStore', options, ['path', 'maxReaders', 'mode']);
  const { path, maxReaders, mode } = options;
  if (typeof path !== 'string' || path === '')
    throw invalidOption('lmdbStore', 'path', path, 'the path of a directory');
  if (maxReaders !== undefined && !(Number.isInteger(maxReaders) && maxReaders > 0)) {
    throw invalidOption('lmdbStore', 'maxReaders', maxReaders, 'a whole number greater than 0');
  }
  if (mode !== undefined && !(Number.isInteger(mode) && mode >= 0o600 && mode <= 0o777 && (mode & 0o600) === 0o600)) {
    const allowed = 'permissions that let the owner read and write, such as 0o600 or 0o660';
    throw invalidOption('lmdbStore', 'mode', mode, allowed);
  }
  return options;
}
