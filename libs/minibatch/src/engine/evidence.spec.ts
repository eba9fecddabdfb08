import { describe, expect, it } from 'vitest';
import { ErrorCode, ResultRefused } from '../errors/minibatch.error.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { Service, setUp } from './evidence.spec.support.js';
import { type ConsumerChoice, dieOf, LEASE, Process, stop, STREAM, turns } from './process.spec.support.js';
import { range } from './processes.spec.support.js';

/** Time passes while the engine works, and timers fire a little early, as those of the system do. */
class RestlessClock extends VirtualClock {
  private reads = 0;

  override monotonic(): number {
    this.reads += 1;
    return super.monotonic() + this.reads * 0.1;
  }

  override schedule(ms: number, callback: () => void): () => void {
    return super.schedule(ms - 0.3, callback);
  }
}

describe('evidence', () => {
  it('probes continue when one becomes due in the middle of a turn', async () => {
    const { database, buffered } = setUp();
    const service = new Service();
    service.down = true;
    const p = await new Process(database, { clock: new RestlessClock() })
      .consumer({ size: 1, retry: { attempts: 2, base: 20, max: 20, jitter: 0 }, handler: service.handle })
      .start();
    await p.append(0, 1);
    for (let outages = 0; outages < 20; outages += 1) {
      const { calls } = service;
      await p.advance(200);
      expect(service.calls).toBeGreaterThan(calls);
    }
    service.down = false;
    await p.advance(200);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it.each([1, 2, 5, 40, 150, 300, 398])(
    'no message is given up when the service comes back with run %i of a bisection',
    async (back) => {
      const { database, given, buffered } = setUp();
      let parts = 0;
      const p = await new Process(database)
        .consumer({
          size: 200,
          handler: (window) => {
            if (window.split) parts += 1;
            if (parts < back) throw new Error('the service is away');
          },
        })
        .start();
      await p.append(...range(0, 200));
      await p.advance(60_000);
      expect(await given()).toEqual([]);
      expect(await buffered()).toBe(0);
      await stop(p);
    },
  );

  it('is none from a run that began before the failure', async () => {
    const { database, given, buffered } = setUp();
    const service = new Service();
    let finish = (): void => undefined;
    const p = await new Process(database)
      .consumer({
        size: 1,
        workers: 2,
        retry: { attempts: 1, base: 1_000, max: 60_000, jitter: 0 },
        handler: (window) => {
          if (window.data[0] !== 'slow') return service.handle(window);
          return new Promise<void>((resolve) => (finish = resolve));
        },
      })
      .start();
    await p.append('works');
    await p.put('slow');
    await turns(() => p.seen.length === 2);
    service.down = true;
    await p.put('fails');
    // It is set aside, and probed again and again; none of these runs succeeds.
    await p.clock.advance(10 * 60_000, () => turns(() => false, 60));
    expect(service.calls).toBeGreaterThan(5);
    finish();
    await p.advance(10 * 60_000);
    expect(await given()).toEqual([]);
    expect(await buffered()).toBe(1);
    expect(p.engine.status()[0]?.activity).toBe('blocked');
    service.down = false;
    await p.advance(2 * 60_000);
    expect(service.done).toEqual(['works', 'fails']);
    expect(await given()).toEqual([]);
    await stop(p);
  });

  it('is none from before the last part failed', async () => {
    const { database, given, buffered } = setUp();
    const service = new Service();
    const p = await new Process(database)
      .consumer({ size: 2, retry: { attempts: 1, base: 1_000, max: 60_000, jitter: 0 }, handler: service.handle })
      .start();
    await p.append(0, 1);
    service.down = true;
    await p.append(2, 3);
    await p.advance(10 * 60_000);
    expect(await given()).toEqual([]);
    expect(await buffered()).toBe(2);
    service.down = false;
    await p.advance(2 * 60_000);
    expect(service.done).toEqual([0, 1, 2, 3]);
    await stop(p);
  });

  it.each(['passed', 'refused'])(
    'has a window that failed only as probe tried from the beginning: a message of it is %s',
    async (how) => {
      const { database, given, buffered } = setUp();
      const service = new Service();
      for (const bad of [0, 1, 2, 3, 5]) service.bad.add(bad);
      const put = (result: unknown) => {
        if (how === 'refused' && (result as unknown[]).includes(4)) throw new ResultRefused('no 4');
      };
      const p = await new Process(database)
        .consumer({
          size: 3,
          retry: { attempts: 1, base: 1_000, max: 60_000, jitter: 0 },
          onRefused: 'deadLetter',
          sinks: [{ name: 'Sink', sink: { put } }],
          handler: (window) => {
            service.handle(window);
            return window.data;
          },
        })
        .start();
      await p.append(0, 1, 2, 3, 4, 5);
      await p.advance(10 * 60_000);
      expect((await given()).toSorted((a, b) => Number(a) - Number(b))).toEqual(
        how === 'refused' ? range(0, 6) : [0, 1, 2, 3, 5],
      );
      expect(await buffered()).toBe(0);
      // The probe, which says nothing of the others, is message 4; then 3 and 5 fail alone, and once more with proof.
      const alone = p.seen.filter(({ data }) => data.length === 1).map(({ data }) => data[0]);
      expect(alone.slice(3, 4)).toEqual([4]);
      expect(alone.slice(4).filter((data) => data === 3 || data === 5)).toEqual([3, 5, 3, 5]);
      await stop(p);
    },
  );

  it('gives up a bad message that is alone in its window as soon as the next one gets through', async () => {
    const { database, given, buffered } = setUp();
    const service = new Service();
    service.bad.add(0);
    const p = await new Process(database).consumer({ size: 1, handler: service.handle }).start();
    await p.append(...range(0, 1_000));
    await p.advance(20_000);
    expect(await given()).toEqual([0]);
    expect(service.done).toEqual(range(1, 1_000));
    expect(await buffered()).toBe(0);
    expect(p.engine.status()[0]).toMatchObject({ activity: 'waiting', deadLettered: 1 });
    await stop(p);
  });

  it.each<[string, ConsumerChoice, number]>([
    ['windows of one', { size: 1 }, 1],
    ['windows of one, three workers', { size: 1, workers: 3 }, 1],
    ['windows of five', { size: 5 }, 5],
    ['little room', { size: 1 }, 1],
  ])('gets past twenty bad windows in a row: %s', async (name, choice, size) => {
    const { database, given, buffered } = setUp();
    const service = new Service();
    const bad = range(0, 20 * size);
    for (const each of bad) service.bad.add(each);
    const engine = name === 'little room' ? { readAhead: 15 } : {};
    const p = await new Process(database, { engine }).consumer({ ...choice, handler: service.handle }).start();
    await p.append(...range(0, 20 * size + 1_000));
    await p.advance(15 * 60_000);
    // The last of them may have nothing behind it that would show that it works.
    await p.append(...range(20 * size + 1_000, 21 * size + 1_000));
    await p.advance(60_000);
    expect((await given()).toSorted((a, b) => Number(a) - Number(b))).toEqual(bad);
    expect(service.done.toSorted((a, b) => Number(a) - Number(b))).toEqual(range(20 * size, 21 * size + 1_000));
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('sees that it works though there is a bad message in each window', async () => {
    const { database, given, buffered } = setUp();
    const service = new Service();
    const bad = [...range(0, 10), ...range(10, 400).filter((i) => i % 10 === 0)];
    for (const each of bad) service.bad.add(each);
    const p = await new Process(database, { engine: { readAhead: 20 } })
      .consumer({ size: 10, handler: service.handle })
      .start();
    await p.append(...range(0, 400));
    await p.advance(20 * 60_000);
    expect((await given()).toSorted((a, b) => Number(a) - Number(b))).toEqual(bad);
    expect(service.done).toHaveLength(400 - bad.length);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('gives up nothing in an outage, knocks seldom, and takes up everything afterwards', async () => {
    const { database, given, buffered, windows } = setUp();
    const service = new Service();
    service.bad.add(7);
    service.down = true;
    const p = await new Process(database).consumer({ size: 5, handler: service.handle }).start();
    await p.append(...range(0, 500));
    await p.advance(60 * 60_000);
    expect(await given()).toEqual([]);
    expect(await buffered()).toBe(500);
    expect(service.done).toEqual([]);
    expect(service.calls).toBeLessThan(200);
    expect(p.engine.status()[0]).toMatchObject({ activity: 'blocked', lastError: { code: ErrorCode.AllFailed } });
    // One has used its attempts up; the others failed only as probes.
    expect(windows().filter(({ aside }) => aside)).toHaveLength(1);
    expect(windows().every(({ seq, attempt }) => seq === 1 || attempt === 1)).toBe(true);

    service.down = false;
    await p.advance(2 * 60_000);
    expect(await given()).toEqual([7]);
    expect(service.done.toSorted((a, b) => Number(a) - Number(b))).toEqual(range(0, 500).filter((i) => i !== 7));
    expect(await buffered()).toBe(0);
    expect(p.engine.status()[0]?.activity).toBe('waiting');
    await stop(p);
  });

  it('tries a lone window again with backoff, and the first new one at once', async () => {
    const { database, given, buffered } = setUp();
    const service = new Service();
    service.bad.add('bad');
    const p = await new Process(database).consumer({ size: 1, handler: service.handle }).start();
    await p.append('bad');
    await p.advance(30 * 60_000);
    expect(await given()).toEqual([]);
    expect(p.engine.status()[0]).toMatchObject({ activity: 'blocked', lastError: { code: ErrorCode.AllFailed } });
    const before = service.calls;
    expect(before).toBeLessThan(50);
    await p.append('good');
    expect(service.done).toEqual(['good']);
    expect(await given()).toEqual(['bad']);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('takes a lone window up again as soon as it works', async () => {
    const { database, given, buffered } = setUp();
    const service = new Service();
    service.down = true;
    const p = await new Process(database).consumer({ size: 3, handler: service.handle }).start();
    await p.append(1, 2, 3);
    await p.advance(10 * 60_000);
    service.down = false;
    await p.advance(61_000);
    expect(service.done).toEqual([1, 2, 3]);
    expect(await given()).toEqual([]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it.each(['stopped', 'killed'])('needs new evidence after its process was %s', async (how) => {
    const { database, given, buffered, windows } = setUp();
    const service = new Service();
    service.bad.add(0);
    service.down = true;
    const first = await new Process(database).consumer({ size: 1, handler: service.handle }).start();
    await first.append(0);
    await first.advance(60_000);
    // Where its parts stand is stored too.
    const split = { pending: [], alone: [], again: [{ from: 0, to: 1 }], last: false };
    expect(windows()).toMatchObject([{ seq: 1, aside: expect.any(Date) as Date, split }]);
    if (how === 'killed') first.kill();
    else await stop(first);

    const clock = new VirtualClock(first.clock.now());
    const second = await new Process(database, { clock }).consumer({ size: 1, handler: service.handle }).start();
    await second.append(1);
    await second.advance(2 * LEASE + 60_000);
    expect(await given()).toEqual([]);
    service.down = false;
    await second.advance(3 * 60_000);
    expect(service.done).toEqual([1]);
    expect(await given()).toEqual([0]);
    expect(await buffered()).toBe(0);
    await stop(second);
  });

  it('finds a message that ends its process though it is alone in its window, and what is behind it gets through', async () => {
    const { database, given, buffered, plain } = setUp();
    await plain.ensureStream(STREAM);
    await plain.append(range(0, 30).map((data) => ({ stream: STREAM, data, created: new Date() })));
    const { done, deaths } = await dieOf(database, 3, { size: 1 });
    expect(deaths).toBeLessThan(20);
    expect(await given()).toEqual([3]);
    expect([...done].toSorted((a, b) => Number(a) - Number(b))).toEqual(range(0, 30).filter((i) => i !== 3));
    expect(await buffered()).toBe(0);
  });

  it('keeps to a rate limit, a pause and a flush', async () => {
    const { database, given, buffered, plain } = setUp();
    const service = new Service();
    service.bad.add(0).add(1);
    const p = await new Process(database)
      .consumer({ size: 2, handler: service.handle, rateLimit: { unit: 'windows', most: 5, per: 10_000 } })
      .start();
    await p.append(0, 1);
    await p.advance(60_000);
    await plain.updateStream(STREAM, { paused: true });
    await p.engine.refresh(STREAM);
    const { calls } = service;
    await p.append(2, 3, 4);
    await p.advance(10 * 60_000);
    expect(service.calls).toBe(calls);
    await plain.updateStream(STREAM, { paused: false });
    await p.engine.refresh(STREAM);
    await p.advance(60_000);
    expect(await given()).toEqual([0, 1]);
    await plain.updateStream(STREAM, { flush: true });
    await p.engine.refresh(STREAM);
    await p.advance(60_000);
    expect(service.done).toEqual([2, 3, 4]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });

  it('stops at once and gives its lease back while windows are held', async () => {
    const { database, buffered } = setUp();
    const service = new Service();
    service.down = true;
    const first = await new Process(database).consumer({ size: 1, handler: service.handle }).start();
    await first.append(...range(0, 30));
    await first.advance(5 * 60_000);
    await stop(first, 20_000);
    service.down = false;
    const clock = new VirtualClock(first.clock.now());
    const second = await new Process(database, { clock }).consumer({ size: 1, handler: service.handle }).start();
    await second.advance(60_000);
    expect(await buffered()).toBe(0);
    expect(service.done.toSorted((a, b) => Number(a) - Number(b))).toEqual(range(0, 30));
    await stop(second);
  });

  it('keeps the window of every message in bounds while nothing works', async () => {
    const { database } = setUp();
    const service = new Service();
    service.down = true;
    const p = await new Process(database, { engine: { readAhead: 20 } })
      .consumer({ size: 1, handler: service.handle })
      .start();
    await p.append(...range(0, 1_000));
    await p.advance(6 * 60 * 60_000);
    expect(p.engine.status()[0]?.inFlight).toBeLessThan(120);
    await stop(p);
  });

  it.each(['block', 'deadLetter'] as const)('is not asked for with onAllFailed: %s', async (onAllFailed) => {
    const { database, given } = setUp();
    const service = new Service();
    service.bad.add(0);
    const p = await new Process(database).consumer({ size: 1, onAllFailed, handler: service.handle }).start();
    await p.append(0, 1);
    await p.advance(30 * 60_000);
    expect(await given()).toEqual(onAllFailed === 'block' ? [] : [0]);
    expect(service.done).toEqual(onAllFailed === 'block' ? [] : [1]);
    expect(p.engine.status()[0]?.activity).toBe(onAllFailed === 'block' ? 'blocked' : 'waiting');
    await stop(p);
  });
});
