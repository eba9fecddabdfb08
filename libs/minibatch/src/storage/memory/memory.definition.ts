import type { StoreDefinition } from '../store-definition.js';
import type { MemoryDatabase } from './memory.database.js';
import { MemoryStreamStore } from './memory.store.js';

export interface MemoryStoreOptions {
  /** Applications with the same database see each other's streams. @default one of its own for each application */
  readonly database?: MemoryDatabase;
}

/**
 * Streams lie in memory: for tests, and to try things out. Everything is gone when the process ends.
 *
 * @example
 * ```ts
 * MinibatchModule.forRoot({ store: memoryStore() })
 * ```
 */
export function memoryStore(options: MemoryStoreOptions = {}): StoreDefinition {
  return { kind: 'memory', useFactory: () => new MemoryStreamStore(options.database) };
}
