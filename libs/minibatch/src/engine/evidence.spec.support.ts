import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { Window } from '../windows/window.js';
import { STREAM } from './process.spec.support.js';

export function setUp() {
  const database = new MemoryDatabase();
  const plain = new MemoryStreamStore(database);
  return {
    database,
    plain,
    given: async () => (await plain.deadLetters(STREAM, {}, undefined, 20_000)).map(({ data }) => data),
    buffered: async () => (await plain.stats([STREAM]))[0]?.buffered,
    windows: () => [
      ...(database.streams
        .get(STREAM)
        ?.consumer({ stream: STREAM, group: 'default', partition: 0 })
        ?.windows.values() ?? []),
    ],
  };
}

/** What a handler needs, and what it did. */
export class Service {
  down = false;
  readonly bad = new Set<unknown>();
  readonly done: unknown[] = [];
  calls = 0;

  readonly handle = (window: Window): void => {
    this.calls += 1;
    if (this.down) throw new Error('the service is away');
    for (const item of window.data) if (this.bad.has(item)) throw new Error(`bad ${String(item)}`);
    this.done.push(...window.data);
  };
}
