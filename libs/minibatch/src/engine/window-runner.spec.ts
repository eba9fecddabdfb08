import { describe, expect, it } from 'vitest';
import { Service, setUp } from './evidence.spec.support.js';
import { Process, stop } from './process.spec.support.js';
import { range } from './processes.spec.support.js';

const retry = { base: 1_000, max: 60_000, jitter: 0, attempts: 1 };

describe('a probe of a window that was not tried before', () => {
  it.each([
    { size: 1, runs: [[1]] },
    // One bad message in it would be enough, so one of them is tried alone, too.
    { size: 2, runs: [[2, 3], [3]] },
    { size: 3, runs: [[3, 4, 5], [4]] },
  ])('runs it once, and then one message of it if it has several: windows of $size', async ({ size, runs }) => {
    const { database, given, buffered, windows } = setUp();
    const service = new Service();
    service.down = true;
    const p = await new Process(database).consumer({ size, retry, handler: service.handle }).start();
    await p.append(...range(0, 2 * size));
    // The first one is set aside, and the next one is its first probe.
    const ofSecond = p.seen.filter(({ data }) => data.some((each) => Number(each) >= size));
    expect(ofSecond.map(({ data }) => data)).toEqual(runs);
    // It counts as no attempt, and is not taken apart in the store.
    const [, second] = windows();
    expect(second).toMatchObject({ seq: 2, attempt: 1, error: 'the service is away' });
    expect(second).not.toHaveProperty('split');

    service.down = false;
    await p.advance(2 * retry.max);
    expect(service.done.toSorted((a, b) => Number(a) - Number(b))).toEqual(range(0, 2 * size));
    expect(await given()).toEqual([]);
    expect(await buffered()).toBe(0);
    await stop(p);
  });
});
