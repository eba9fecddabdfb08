import { afterEach, describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { Window } from '../windows/window.js';
import { type Event, KeyedWorld } from './keyed.spec.support.js';

const at = (k: string, ...times: readonly number[]): readonly Event[] => times.map((time) => ({ k, at: time }));
const numbered = (k: string, ...ns: readonly number[]): readonly Event[] => ns.map((n) => ({ k, n }));
const byTime = { by: 'k', time: ({ at: seconds }: { at: number }) => seconds * 1_000, idle: 'hold' };

describe('windows by key and event time for a method', () => {
  let world = new KeyedWorld();
  const begin = async (options: object, handler?: (window: Window) => unknown) => {
    world = new KeyedWorld();
    await world.consume(options, handler);
    return world;
  };
  afterEach(() => world.end());

  it('are by count for each key, and after a time with fewer', async () => {
    await begin({ by: 'k', size: 2, interval: '5s' });
    await world.append(...numbered('a', 1, 2, 3), ...numbered('b', 4));
    await world.pass(1);
    expect(world.take()).toEqual(['a 1,2']);
    await world.pass(10);
    expect(world.take()).toEqual(['a 3 partial', 'b 4 partial']);
    // A key costs nothing once its windows are gone.
    expect(await world.slots()).toEqual(['m/', 'q/']);
  });

  it('are the last so many after every so many', async () => {
    await begin({ by: 'k', size: 4, every: 2 });
    await world.append(...numbered('a', 1, 2, 3, 4, 5, 6, 7, 8), ...numbered('b', 9));
    await world.pass(1);
    expect(world.take()).toEqual(['a 1,2,3,4', 'a 3,4,5,6', 'a 5,6,7,8']);
  });

  it('are sessions', async () => {
    await begin({ ...byTime, gap: '5s', wait: '2s' });
    await world.append(...at('a', 1, 4, 10, 7, 12, 3, 18, 26, 15, 40), ...at('b', 39));
    await world.pass(1);
    expect(world.take()).toEqual(['a [1, 17) 1,3,4,7,10,12', 'a [15, 20) 15 late', 'a [18, 23) 18', 'a [26, 31) 26']);
  });

  it('give the first message of a session at once, and gather the rest', async () => {
    await begin({ by: 'k', gap: '2s', leading: true, grace: 0 });
    await world.append(...numbered('a', 1, 2));
    await world.pass(0.5);
    expect(world.take()).toEqual(['a [0, 2) 1 partial']);
    await world.append(...numbered('a', 3));
    await world.pass(5);
    expect(world.take()).toEqual([expect.stringMatching(/^a \[.*\) 2,3$/)]);
  });

  it('are hopping, and each message is stored once', async () => {
    await begin({ ...byTime, interval: '10s', every: '5s' });
    await world.append(...at('a', 1, 4, 10, 7, 12, 3, 18, 26, 40));
    await world.pass(1);
    const seen = world.take();
    expect(seen.filter((each) => !each.includes('late'))).toEqual([
      'a [-5, 5) 1,4',
      'a [0, 10) 1,4',
      'a [5, 15) 7,10,12',
      'a [10, 20) 10,12,18',
      'a [15, 25) 18',
      'a [20, 30) 26',
      'a [25, 35) 26',
    ]);
    // Late messages of a window are gathered until the next one starts.
    expect(seen.filter((each) => each.includes('late'))).toEqual(['a [-5, 5) 3 late', 'a [0, 10) 3,7 late']);
    // The message whose windows are open, and its key.
    expect((await world.slots()).filter((slot) => !slot.endsWith('a'))).toEqual(['m/', 'q/']);
  });

  it('have ids of their own, though their messages are the same', async () => {
    const ids: string[] = [];
    await begin({ ...byTime, interval: '10s', every: '5s' }, ({ id }) => void ids.push(id));
    await world.append(...at('a', 1, 50));
    await world.pass(1);
    expect(new Set(ids).size).toBe(2);
  });

  it('end at each message', async () => {
    await begin({ ...byTime, interval: '10s', every: 'message' });
    await world.append(...at('a', 1, 5, 11, 30));
    await world.pass(1);
    expect(world.take()).toEqual(['a [-9, 1) 1', 'a [-5, 5) 1,5', 'a [1, 11) 5,11', 'a [20, 30) 30']);
  });

  it('need no key', async () => {
    await begin({ time: byTime.time, idle: 'hold', interval: '10s' });
    await world.append(...at('a', 1), ...at('b', 9, 10, 25));
    await world.pass(1);
    expect(world.take()).toEqual(['- [0, 10) 1,9', '- [10, 20) 10']);
  });

  it('begin by the calendar of a time zone', async () => {
    const starts: (Date | undefined)[] = [];
    const options = { interval: '1d', timezone: 'Europe/Berlin', time: byTime.time, idle: 'hold' };
    await begin(options, ({ start, end }) => void starts.push(start, end));
    // The clocks are put forward on 30 March 2025.
    const noon = Date.UTC(2025, 2, 30, 12) / 1_000;
    await world.append(...at('a', noon, noon + 2 * 86_400));
    // Not ahead of the clock by more than `maxAhead`.
    world.clock.jump(Date.UTC(2025, 3, 1));
    await world.pass(1);
    await world.append(...at('a', noon, noon + 86_400));
    await world.pass(1);
    expect(starts.slice(0, 2)).toEqual([new Date('2025-03-29T23:00Z'), new Date('2025-03-30T22:00Z')]);
  });

  it('close by the clock when nothing comes', async () => {
    await begin({ by: 'k', interval: '10s' });
    await world.append(...numbered('a', 1));
    await world.pass(30);
    expect(world.take()).toEqual(['a [0, 10) 1']);
  });

  it.each([
    ['window', ['a [0, 10) 2 late'], []],
    ['drop', [], []],
    ['deadLetter', [], ['a']],
  ])('do with late messages what late: %s says', async (late, windows, letters) => {
    await begin({ ...byTime, interval: '10s', late });
    await world.append(...at('a', 1, 20, 2));
    await world.append(...at('a', 40));
    await world.pass(1);
    expect(world.take().filter((each) => each.includes('late'))).toEqual(windows);
    const dead = await world.letters();
    expect(dead.map(({ data }) => (data as Event).k)).toEqual(letters);
    for (const { error } of dead) expect(error).toMatch(/too late for its window of .* ended at 1970-01-01T00:00:10/);
    expect(world.engine.status()[0]?.dropped).toBe(late === 'drop' ? 1 : 0);
  });

  it('are given what was redriven, however late it is', async () => {
    await begin({ ...byTime, interval: '10s', late: 'deadLetter' });
    await world.append(...at('a', 1, 20, 2));
    await world.pass(1);
    world.take();
    await world.redrive();
    expect(world.take()).toEqual(['a [0, 10) 2 late']);
    expect(await world.letters()).toEqual([]);
  });

  it('make dead letters of what has no key or no time', async () => {
    const options = {
      by: ({ k }: Event) => (k === 'throws' ? JSON.parse('{') : k === 'none' ? undefined : k) as string,
      time: ({ at: seconds = 0 }: Event) => (seconds < 0 ? Number.NaN : seconds * 1_000),
      interval: '10s',
    };
    await begin(options);
    await world.append(...at('none', 1), ...at('throws', 1), ...at('a', -1));
    await world.pass(1);
    const errors = (await world.letters()).map(({ error }) => error);
    expect(errors).toEqual([
      expect.stringContaining(ErrorCode.NoKey),
      expect.stringContaining('JSON'),
      expect.stringContaining(ErrorCode.BadTime),
    ]);
  });

  it('are taken apart, and redriven messages come back in windows', async () => {
    let isBad = true;
    const run = ({ data }: Window) => {
      if (isBad && (data as Event[]).some(({ n }) => n === 2)) throw new Error('bad');
    };
    await begin({ by: 'k', size: 3, interval: '5s', retry: { attempts: 2, backoff: 10 } }, run);
    await world.append(...numbered('a', 1, 2, 3), ...numbered('b', 4, 5, 6));
    await world.pass(60);
    expect((await world.letters()).map(({ data }) => data)).toEqual([{ k: 'a', n: 2 }]);
    expect(world.take().toSorted()).toEqual(['a 1', 'a 3', 'b 4,5,6']);
    isBad = false;
    await world.redrive();
    await world.pass(10);
    expect(world.take()).toEqual(['a 2 partial']);
  });

  it('are given in parts if they are too large', async () => {
    const parts: unknown[] = [];
    await begin({ ...byTime, interval: '10s', maxSize: 2 }, ({ part, data }) => void parts.push([part, data.length]));
    await world.append(...at('a', 5, 4, 3, 2, 1, 20));
    await world.pass(1);
    expect(world.take()).toEqual(['a [0, 10) 1,2', 'a [0, 10) 3,4', 'a [0, 10) 5']);
    expect(parts).toEqual([
      [0, 2],
      [1, 2],
      [2, 1],
    ]);
    expect((await world.slots()).filter((slot) => slot.startsWith('c/'))).toEqual([]);
  });

  it('are given out by a flush, and by a drain, which ends then', async () => {
    world = new KeyedWorld();
    await world.store.ensureStream('events');
    await world.append(...at('a', 1, 2), ...at('b', 3));
    await world.drain({ ...byTime, interval: '10s' });
    expect(world.take().toSorted()).toEqual(['a [0, 10) 1,2 partial', 'b [0, 10) 3 partial']);
    expect((await world.store.stats(['events']))[0]?.buffered).toBe(0);
  });

  it('are refused of a stream with several partitions, without losing anything', async () => {
    world = new KeyedWorld();
    world.engine.declare('events', 2);
    await world.consume({ by: 'k', size: 1 });
    await world.append(...numbered('a', 1));
    await world.pass(5);
    expect(world.take()).toEqual([]);
    expect(world.lines.join()).toContain('has 2 partitions');
    expect((await world.store.stats(['events']))[0]?.buffered).toBe(1);
  });
});
