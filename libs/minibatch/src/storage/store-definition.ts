import { copyOptions } from '../common/checks.js';
import type { StreamStore } from './stream-store.interface.js';

/**
 * Says how to make a store, without making it: a module class may serve several applications of one process, and each
 * needs a store of its own. Made by `lmdbStore`, `postgresStore`, `memoryStore`.
 */
export interface StoreDefinition {
  /** As the store's `name`. */
  readonly kind: string;
  /** Nest modules that provide what `inject` names. */
  readonly imports?: readonly unknown[];
  /** Nest tokens; their values are the arguments of `useFactory`. */
  readonly inject?: readonly unknown[];
  /** Does not open the store. */
  useFactory(...dependencies: never[]): StreamStore | Promise<StreamStore>;
}

/** Collections under other names than the Python library's `stream`, `buffer`, `window`, and our own `consumer`, `deadletter`, `state`. */
export interface MongooseCollections {
  /** Streams and their settings. @default 'stream' */
  readonly stream?: string;
  /** Messages. @default 'buffer' */
  readonly buffer?: string;
  /** Claimed and kept windows. @default 'window' */
  readonly window?: string;
  /** Leases and progress. @default 'consumer' */
  readonly consumer?: string;
  /** Dead letters. @default 'deadletter' */
  readonly deadletter?: string;
  /** What consumers remember of messages that have left. Not made before one of them remembers something. @default 'state' */
  readonly state?: string;
}

export interface MongooseStoreOptions {
  /** Name of the connection in `MongooseModule.forRoot(uri, { connectionName })`. @default the default connection */
  readonly connectionName?: string;
  /** Names of the collections. @default 'stream', 'buffer', 'window', 'consumer', 'deadletter', 'state' */
  readonly collections?: MongooseCollections;
}

/** The store on the application's own Mongoose connection, which is neither opened nor closed by this package. */
export interface MongooseStoreDefinition extends MongooseStoreOptions {
  readonly kind: 'mongoose';
}

/** Streams lie in MongoDB, on a connection that the application made with `MongooseModule`. The default store. */
export function mongooseStore(options: MongooseStoreOptions = {}): MongooseStoreDefinition {
  return { ...(copyOptions('mongooseStore', options) as MongooseStoreOptions), kind: 'mongoose' };
}
