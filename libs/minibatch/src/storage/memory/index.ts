export { MemoryDatabase } from './memory.database.js';
export { memoryStore, type MemoryStoreOptions } from './memory.definition.js';
export { MemoryStreamStore } from './memory.store.js';
