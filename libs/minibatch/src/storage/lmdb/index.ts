export { lmdbStore, type LmdbStoreAsyncOptions } from './lmdb.definition.js';
export { type LmdbStoreOptions, LmdbStreamStore } from './lmdb.store.js';
