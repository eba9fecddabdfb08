import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { MessageId, TimeRange } from '../storage/stream-store.interface.js';
import { STREAM } from './process.spec.support.js';
import { StreamCursor } from './stream-cursor.js';

const KEY = { stream: STREAM, group: 'default', partition: 0 };

/** A cursor on messages that were created at these times. */
async function cursorOn(times: readonly number[], block: number) {
  const store = new MemoryStreamStore();
  await store.ensureStream(STREAM);
  await store.registerGroup(KEY, { timeOrder: true });
  if (times.length > 0) {
    await store.append(times.map((at) => ({ stream: STREAM, data: at, created: new Date(at) })));
  }
  const owned = new Set<MessageId>();
  const received: unknown[] = [];
  const cursor = new StreamCursor(
    store,
    KEY,
    { messages: block, bytes: 1_000_000 },
    {
      get ownedCount() {
        return owned.size;
      },
      owns: (id) => owned.has(id),
      receive: (messages) => {
        for (const { id, data } of messages) {
          if (!owned.has(id)) received.push(data);
          owned.add(id);
        }
      },
      skipDamaged: () => undefined,
    },
  );
  return { cursor, received };
}

/** Reads until nothing is left. */
async function readAll(cursor: StreamCursor): Promise<number> {
  let reads = 1;
  while (!(await cursor.next(Infinity))) reads += 1;
  return reads;
}

const times = fc.array(fc.nat(40), { maxLength: 40 });
const block = fc.integer({ min: 1, max: 10 });

describe('a cursor', () => {
  it('has read all that there is, in order, when it says that nothing is left', async () => {
    await fc.assert(
      fc.asyncProperty(times, block, async (created, size) => {
        const { cursor, received } = await cursorOn(created, size);
        cursor.restart();
        await readAll(cursor);
        expect(received).toEqual(created);
      }),
      { numRuns: 50 },
    );
  });

  it('has read all of its ranges, in order of time, when it says that nothing is left', async () => {
    await fc.assert(
      fc.asyncProperty(times, block, fc.nat(40), async (created, size, middle) => {
        const { cursor, received } = await cursorOn(created, size);
        const ranges: readonly TimeRange[] = [{ to: new Date(middle) }, { from: new Date(middle) }];
        cursor.restartByTime(ranges);
        expect(cursor.isByTime).toBe(true);
        await readAll(cursor);
        expect(received).toEqual(created.toSorted((a, b) => a - b));
      }),
      { numRuns: 50 },
    );
  });

  it('goes on after a full block within a range, and to the next range after a short one', async () => {
    const { cursor, received } = await cursorOn([5, 1, 4, 2, 3, 9, 8], 2);
    cursor.restartByTime([{ to: new Date(6) }, { from: new Date(6), to: new Date(9) }]);
    const found: unknown[] = [];
    for (let left = true; left;) {
      left = !(await cursor.next(10));
      found.push([received.splice(0), left]);
    }
    expect(found).toEqual([
      [[1, 2], true],
      [[3, 4], true],
      [[5], true],
      [[8], false],
    ]);
  });
});
