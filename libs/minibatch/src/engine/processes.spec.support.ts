import { afterEach } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { Process, STREAM } from './process.spec.support.js';

export const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

/** Processes on one database, which are stopped after each test. */
export function useProcesses() {
  const processes: Process[] = [];
  const database = { current: new MemoryDatabase() };
  afterEach(async () => {
    for (const p of processes.splice(0)) {
      if (!p.started) continue;
      const stopping = p.engine.stop(0);
      await p.advance(10_000);
      await stopping;
    }
    database.current = new MemoryDatabase();
  });
  return {
    database,
    make: (options?: ConstructorParameters<typeof Process>[1]) => {
      const made = new Process(database.current, options);
      processes.push(made);
      return made;
    },
    buffered: async () => (await new MemoryStreamStore(database.current).stats([STREAM]))[0]?.buffered,
  };
}
