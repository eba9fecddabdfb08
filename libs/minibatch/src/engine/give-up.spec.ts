import { describe, expect, it } from 'vitest';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { Service, setUp } from './evidence.spec.support.js';
import { Process, stop, STREAM } from './process.spec.support.js';
import { range } from './processes.spec.support.js';

describe('a window that an operator gives up', () => {
  /** As `Stream.giveUp`, by way of any process. */
  async function giveUp(p: Process, plain: MemoryStreamStore, window: string | undefined): Promise<void> {
    await plain.updateStream(STREAM, { request: { group: 'default', window: window ?? '', action: 'giveUp' } });
    await p.engine.refresh(STREAM);
    await p.engine.settled();
  }

  it('is set aside: its messages become dead letters at once, and nothing else', async () => {
    const { database, plain, given, buffered, windows } = setUp();
    const service = new Service();
    service.down = true;
    const p = await new Process(database).consumer({ size: 2, handler: service.handle }).start();
    await p.append(...range(0, 6));
    await p.advance(2 * 60_000);
    const { setAside } = p.engine.status()[0] ?? {};
    expect(setAside).toMatchObject({ windows: 3, messages: 6, window: windows()[0]?.id, error: 'the service is away' });
    await giveUp(p, plain, setAside?.window);
    expect(await given()).toEqual([0, 1]);
    const [letter] = await plain.deadLetters(STREAM, {}, undefined, 1);
    expect(letter?.error).toBe('given up by giveUp(); it had failed with: the service is away');
    expect((await plain.describeStream(STREAM))?.requests).toBeUndefined();
    service.down = false;
    await p.advance(2 * 60_000);
    expect(service.done.toSorted()).toEqual([2, 3, 4, 5]);
    expect(await given()).toEqual([0, 1]);
    expect(await buffered()).toBe(0);
    expect(p.engine.status()[0]).not.toHaveProperty('setAside');
    await stop(p);
  });

  it('waits for its next attempt, or is ready behind it', async () => {
    const { database, plain, given, buffered, windows } = setUp();
    const service = new Service();
    service.bad.add(0);
    const p = await new Process(database)
      .consumer({
        size: 1,
        handler: service.handle,
        retry: { base: 60_000, max: 600_000, jitter: 0, attempts: 5 },
      })
      .start();
    await p.append(0, 1, 2);
    for (const { id } of windows().slice(0, 2).toReversed()) await giveUp(p, plain, id);
    expect(await given()).toEqual([1, 0]);
    expect(service.done).toEqual([2]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('has a result that its sink does not take', async () => {
    const { database, plain, given, buffered, windows } = setUp();
    const taken: unknown[] = [];
    const put = (result: unknown) => {
      if (result === 0) throw new Error('never');
      taken.push(result);
    };
    const p = await new Process(database)
      .consumer({ size: 1, handler: ({ data }) => data[0], sinks: [{ name: 'sink', sink: { put } }] })
      .start();
    await p.append(0, 1);
    await p.advance(60_000);
    expect(p.engine.status()[0]?.activity).toBe('blocked');
    await giveUp(p, plain, windows()[0]?.id);
    expect(await given()).toEqual([0]);
    expect(taken).toEqual([1]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('is given up by the process that takes over, if nobody works for the group', async () => {
    const { database, plain, given, buffered, windows } = setUp();
    const service = new Service();
    service.down = true;
    const first = await new Process(database).consumer({ size: 1, handler: service.handle }).start();
    await first.append(0, 1);
    await first.advance(60_000);
    await stop(first);
    const request = { group: 'default', window: windows()[0]?.id ?? '', action: 'giveUp' as const };
    await plain.updateStream(STREAM, { request });
    await plain.updateStream(STREAM, { request: { ...request, window: 'committed long since' } });
    service.down = false;
    const clock = new VirtualClock(first.clock.now());
    const second = await new Process(database, { clock }).consumer({ size: 1, handler: service.handle }).start();
    await second.advance(60_000);
    expect(await given()).toEqual([0]);
    expect(service.done).toEqual([1]);
    expect((await plain.describeStream(STREAM))?.requests).toBeUndefined();
    expect(await buffered()).toBe(0);
    await stop(second);
  });
});

describe('a bisection in which everything fails', () => {
  it.each([500, 1_000, 6_000, 10_000])('of %i messages writes little and keeps the text of each', async (size) => {
    const { plain } = setUp();
    const database = new MemoryDatabase();
    let written = 0;
    const service = new Service();
    for (const each of range(0, size)) service.bad.add(each);
    const p = await new Process(database, {
      around: (call) => {
        if (call.method === 'reschedule')
          written += JSON.stringify((call.args[1] as { split?: unknown }).split ?? '').length;
        return call.proceed();
      },
    })
      .consumer({ size, maxSize: 10_000, handler: service.handle })
      .start();
    await p.append(...range(0, size));
    await p.append(...range(size, 2 * size));
    await p.advance(60_000);
    const store = new MemoryStreamStore(database);
    const letters = await store.deadLetters(STREAM, {}, undefined, 20_000);
    expect(letters.map(({ data, error }) => [data, error])).toEqual(range(0, size).map((i) => [i, `bad ${i}`]));
    expect(service.done).toEqual(range(size, 2 * size));
    // Of ids, n log n would be.
    expect(written).toBeLessThan(12 * size * Math.log2(size));
    expect(await plain.listStreams()).toEqual([]);
    await stop(p);
  });
});
