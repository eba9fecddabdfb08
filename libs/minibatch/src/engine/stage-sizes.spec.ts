import { describe, expect, it } from 'vitest';
import type { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { Commit, Lease } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { CountWindow } from '../windows/count.window.js';
import type { WindowEmitter } from '../windows/window-emitter.js';
import type { Stage } from './engine.interface.js';
import { LEASE, Process, stop, STREAM, storeToInspect, turns } from './process.spec.support.js';

const OUT = 'out';
const ALLOWED = 10_000;

/** Refuses what is too large, as MongoDB does, for good. */
class SmallCommits extends MemoryStreamStore {
  readonly maxWindowEffectBytes = ALLOWED;

  override async commit(lease: Lease, commit: Commit) {
    for (const { append = [], put = [] } of commit.effects?.values() ?? []) {
      const sizes = [...append.map(({ bytes: each = 0 }) => each), ...put.map(({ value }) => value.length)];
      const bytes = sizes.reduce((sum, each) => sum + each, 0);
      if (bytes > ALLOWED) throw new Error('too large');
    }
    return super.commit(lease, commit);
  }
}

class Batches extends CountWindow {
  readonly sizes: number[] = [];
  shrink(most: number): void {
    this.size = most;
  }
}

/** Counts messages in a row of its own, and appends each with its number and so many bytes. */
function countingStage(): Stage {
  return {
    run: async (window, changes, strategy) => {
      (strategy as Batches).sizes.push(window.messages.length);
      await changes.load(['count']);
      let n = (changes.get('count') as number | undefined) ?? 0;
      for (const { data } of window.messages) {
        const [name, bytes] = data as [string, number];
        changes.append({ stream: OUT, data: `${name}#${(n += 1)}`, bytes, created: new Date(0) });
      }
      changes.put('count', n);
    },
    givenBack: (strategy, most) => (strategy as Batches).shrink(most),
    values: {
      encode: (value: unknown) => Buffer.from(JSON.stringify(value)),
      decode: (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) as unknown,
    },
    cacheBytes: 1_000,
  };
}

describe('what a stage makes of a window', () => {
  const world = () => {
    const { database, plain, letters, buffered } = storeToInspect();
    const out = async () => {
      await plain.ensureStream(OUT);
      await plain.registerGroup({ stream: OUT, group: 'reader' });
      const reader = { stream: OUT, group: 'reader', partition: 0 };
      const { messages } = await plain.fetch(reader, undefined, { messages: 1000, bytes: 1e9 });
      return messages.map(({ data }) => data);
    };
    return { database, letters, buffered, out };
  };
  const start = async (database: MemoryDatabase, options: ConstructorParameters<typeof Process>[1] = {}) => {
    const store = new SmallCommits(database);
    const emitter = new Batches();
    const p = new Process(database, { store, ...options });
    p.consumer({ size: 20, interval: 50, emitter: emitter as WindowEmitter, stage: countingStage() });
    return { p, store, emitter };
  };
  const messages = (count: number, bytes: (n: number) => number) =>
    Array.from({ length: count }, (_, n) => [`m${n}`, bytes(n)] as const);

  it('is handled in smaller windows if it is more than is committed together, once and in order', async () => {
    const { database, out, buffered, letters } = world();
    const { p, emitter } = await start(database);
    await p.start();
    await p.append(...messages(100, () => 1_500));
    await p.advance(10_000);
    expect(await out()).toEqual(messages(100, () => 0).map(([name], n) => `${name}#${n + 1}`));
    expect([await buffered(), await letters()]).toEqual([0, []]);
    // None of the other windows was tried as it was.
    expect(emitter.sizes.filter((size) => size === 20)).toHaveLength(1);
    expect(p.logged.filter((line) => line.includes('at a time'))).toHaveLength(1);
    await stop(p);
  });

  it('is a dead letter if a single message becomes more, and the others go on', async () => {
    const { database, out, letters, buffered } = world();
    const { p } = await start(database);
    await p.start();
    await p.append(...messages(30, (n) => (n === 7 ? 20_000 : 100)));
    await p.advance(10_000);
    const others = messages(30, () => 0).filter((_, n) => n !== 7);
    expect(await out()).toEqual(others.map(([name], n) => `${name}#${n + 1}`));
    const error = expect.stringMatching(/1 message of 's' become.* at most 10000 are committed/);
    expect((await letters()).map((letter) => [letter.data, letter.error])).toEqual([[['m7', 20_000], error]]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('is the same whenever processes end', async () => {
    const expected = messages(60, () => 0).map(([name], n) => `${name}#${n + 1}`);
    for (const method of ['claim', 'settle', 'commit', 'recover', 'load'] as const) {
      for (const when of ['before', 'after'] as const) {
        const { database, out, letters, buffered } = world();
        const { clock, store } = new Process(database);
        await store.ensureStream(STREAM);
        await store.append(
          messages(60, () => 1_500).map((data) => ({ stream: STREAM, data, created: new Date(clock.now()) })),
        );
        for (let deaths = 0; deaths < 5; deaths += 1) {
          let calls = 0;
          const { p: dying } = await start(database, {
            clock,
            around: async (call: StoreCall) => {
              if (call.method !== method || (calls += 1) <= deaths) return call.proceed();
              if (when === 'after') await call.proceed();
              dying.kill();
              return new Promise(() => undefined);
            },
          });
          await Promise.race([dying.start(), turns(() => false, 100)]);
          await clock.advance(2 * LEASE, () => turns(() => false, 20));
        }
        const { p } = await start(database, { clock });
        await p.start();
        await p.advance(2 * LEASE);
        expect(await out(), `${when} ${method}`).toEqual(expected);
        expect([await buffered(), await letters()], `${when} ${method}`).toEqual([0, []]);
        await stop(p);
      }
    }
  });
});
