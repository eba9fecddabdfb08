import { describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { LEASE, Process, stop, STREAM, storeToInspect } from './process.spec.support.js';

const PARTITIONS = 4;

async function partitioned(partitions = PARTITIONS) {
  const database = new MemoryDatabase();
  const store = new MemoryStreamStore(database);
  await store.ensureStream(STREAM, { partitions });
  const append = (partition: number, ...data: unknown[]) =>
    store.append(data.map((item) => ({ stream: STREAM, data: item, created: new Date(0), partition })));
  return { database, store, append };
}

function shares(processes: readonly Process[]): number[] {
  return processes.map(({ engine }) => engine.status().filter(({ state }) => state === 'running').length);
}

describe('a consumer of a stream with several partitions', () => {
  it('works for all of them, each with a strategy of its own', async () => {
    const { database, append } = await partitioned();
    const seen: unknown[] = [];
    const p = new Process(database);
    p.consumer({ size: 2, handler: ({ partition, data }) => void seen.push([partition, data]) });
    await p.start();
    expect(p.engine.status().map(({ key, state }) => [key.partition, state])).toEqual(
      [0, 1, 2, 3].map((partition) => [partition, 'running']),
    );
    await append(1, 'a');
    await append(2, 'b', 'c');
    await append(1, 'd');
    p.engine.wake(STREAM);
    await p.engine.settled();
    expect(seen).toEqual([
      [1, ['a', 'd']],
      [2, ['b', 'c']],
    ]);
    await stop(p);
  });

  it('reads only the partition that messages have come to', async () => {
    const { database, append } = await partitioned();
    const fetched: number[] = [];
    const p = new Process(database, {
      around: ({ method, args, proceed }) => {
        if (method === 'fetch') fetched.push((args[0] as { partition: number }).partition);
        return proceed();
      },
    });
    await p.consumer({ size: 1 }).start();
    fetched.length = 0;
    await append(3, 'a');
    p.engine.wake(STREAM, 3);
    await p.engine.settled();
    expect(p.values).toEqual(['a']);
    expect(new Set(fetched)).toEqual(new Set([3]));
    await stop(p);
  });

  it('is shared evenly with another process, by partitions', async () => {
    const { database, append } = await partitioned();
    const clock = new VirtualClock();
    const processes = [new Process(database, { clock }), new Process(database, { clock })];
    for (const p of processes) {
      await p.consumer({ size: 1 }).engine.start();
      p.started = true;
    }
    const settled = async () => {
      for (const { engine } of processes) await engine.settled();
    };
    for (let round = 0; round < 12; round += 1) await clock.advance(LEASE / 6, settled);
    expect(shares(processes)).toEqual([2, 2]);
    for (let partition = 0; partition < PARTITIONS; partition += 1) await append(partition, partition);
    for (const { engine } of processes) engine.wake(STREAM);
    await settled();
    expect(processes.map(({ values }) => values.length)).toEqual([2, 2]);
    for (const p of processes) await stop(p);
  });

  it('shares one limit of what is read ahead', async () => {
    const { database } = await partitioned();
    const limits = new Set<number>();
    const p = new Process(database, {
      engine: { readAheadBytes: 4_000 },
      around: ({ method, args, proceed }) => {
        if (method === 'fetch') limits.add((args[2] as { bytes: number }).bytes);
        return proceed();
      },
    });
    await p.consumer({ size: 1 }).start();
    expect(Math.min(...limits)).toBe(1_000);
    await stop(p);
  });

  it('keeps one rate limit in all partitions together', async () => {
    const { database, append } = await partitioned(2);
    const starts: number[] = [];
    const p = new Process(database);
    p.consumer({
      size: 1,
      rateLimit: { unit: 'windows', most: 4, per: 1_000 },
      handler: () => void starts.push(p.clock.monotonic()),
    });
    await p.start();
    for (const partition of [0, 1]) await append(partition, ...Array.from({ length: 8 }, (_, n) => n));
    p.engine.wake(STREAM);
    for (let n = 0; n < 100 && starts.length < 16; n += 1) await p.advance(100);
    expect(starts).toHaveLength(16);
    for (const start of starts)
      expect(starts.filter((other) => other >= start && other < start + 1_000).length).toBeLessThanOrEqual(4);
    await stop(p);
  });

  it('ends in all of them', async () => {
    const { database } = await partitioned();
    const p = await new Process(database).consumer({ size: 1 }).start();
    const removed = p.engine.remove({ stream: STREAM, group: 'default' }, 0);
    await p.clock.advance(1_000);
    await removed;
    expect(p.engine.status()).toEqual([]);
    const keys = [0, 1, 2, 3].map((partition) => ({ stream: STREAM, group: 'default', partition }));
    const leases = await new MemoryStreamStore(database).readLeases(keys);
    expect(leases.map(({ owner }) => owner)).toEqual(keys.map(() => undefined));
    await stop(p);
  });

  it('gives up a bad message that is alone in its partition once later runs in others succeed', async () => {
    const { database, store, append } = await partitioned(2);
    const p = new Process(database);
    const handler = ({ data }: { readonly data: readonly unknown[] }) => {
      if (data.includes('bad')) throw new Error('bad');
    };
    await p.consumer({ size: 1, handler }).start();
    const given = async () => (await store.deadLetters(STREAM, {}, undefined, 10)).map(({ data }) => data);
    await append(1, 'good');
    await append(0, 'bad');
    p.engine.wake(STREAM);
    await p.advance(2 * 60_000);
    expect(await given()).toEqual([]);
    await append(1, 'good');
    p.engine.wake(STREAM);
    await p.advance(60_000);
    expect(await given()).toEqual(['bad']);
    expect(await store.count(STREAM, 10)).toBe(0);
    await stop(p);
  });

  it('gives nothing up while no run succeeds in any partition, nor for one that had begun before', async () => {
    const { database, store, append } = await partitioned(2);
    let finish = (): void => undefined;
    const slow = new Promise<void>((resolve) => (finish = resolve));
    const p = new Process(database);
    const handler = ({ data }: { readonly data: readonly unknown[] }) => {
      if (data.includes('slow')) return slow;
      throw new Error('away');
    };
    await p.consumer({ size: 1, handler }).start();
    await append(1, 'slow');
    p.engine.wake(STREAM);
    await p.clock.advance(1_000);
    await append(0, 'one');
    p.engine.wake(STREAM);
    await p.clock.advance(2 * 60_000);
    finish();
    await p.advance(60_000);
    await append(1, 'two');
    p.engine.wake(STREAM);
    await p.advance(2 * 60_000);
    expect(await store.deadLetters(STREAM, {}, undefined, 10)).toEqual([]);
    expect(await store.count(STREAM, 10)).toBe(2);
    await stop(p);
  });

  it('is drained once every partition is', async () => {
    const { database, append } = await partitioned(2);
    await append(0, 'a');
    await append(1, 'b', 'c', 'd');
    let drained = 0;
    const p = new Process(database);
    await p.engine.run(p.definition({ size: 2, drained: () => void (drained += 1) }));
    await p.engine.settled();
    expect(drained).toBeGreaterThan(0);
    expect(p.values.toSorted()).toEqual(['a', 'b', 'c', 'd']);
    await stop(p);
  });
});

describe('how many partitions a stream has', () => {
  it('is what is declared, for a new stream', async () => {
    const { database, plain } = storeToInspect();
    const p = new Process(database);
    p.engine.declare(STREAM, 3);
    await p.consumer({ size: 1 }).start();
    expect((await plain.describeStream(STREAM))?.partitions).toBe(3);
    expect(p.engine.status()).toHaveLength(3);
    await stop(p);
  });

  it('grows to what is declared first, if nobody has said it before', async () => {
    const { database, plain } = storeToInspect();
    await plain.ensureStream(STREAM);
    const p = new Process(database);
    p.engine.declare(STREAM, 3);
    await p.consumer({ size: 1 }).start();
    const info = await plain.describeStream(STREAM);
    expect(info).toMatchObject({ partitions: 3, growths: [{ from: 1 }] });
    await stop(p);
  });

  it.each([8, 2])('is what is stored, whatever is declared (%s)', async (declared) => {
    const { database, store } = await partitioned();
    const p = new Process(database);
    p.engine.declare(STREAM, declared);
    await p.consumer({ size: 1 }).start();
    expect((await store.describeStream(STREAM))?.partitions).toBe(4);
    expect(p.engine.status()).toHaveLength(4);
    await stop(p);
  });

  it('is what it was made with again after it was dropped', async () => {
    const { database, store, append } = await partitioned();
    const p = await new Process(database).consumer({ size: 1 }).start();
    await store.dropStream(STREAM);
    await p.advance(2 * LEASE);
    expect(p.engine.status().map(({ key, state }) => [key.partition, state])).toEqual([[0, 'running']]);
    await append(0, 'a');
    p.engine.wake(STREAM);
    await p.engine.settled();
    expect(p.values).toEqual(['a']);
    await stop(p);
  });
});
