import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Activity } from '../common/activity.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { StreamWatcher } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { type AwaitingConsumer, type AwaitingConsumers, WakeUps } from './wake-ups.js';

interface Watch {
  readonly streams: readonly string[];
  readonly watcher: StreamWatcher;
  readonly signal: AbortSignal;
}

class WatchingStore extends MemoryStreamStore {
  readonly watches: Watch[] = [];
  answer = () => new Promise<void>(() => {});

  watch(streams: readonly string[], watcher: StreamWatcher, signal: AbortSignal): Promise<void> {
    this.watches.push({ streams, watcher, signal });
    return this.answer();
  }
}

function awaitingAll(all: () => readonly AwaitingConsumer[]): AwaitingConsumers {
  return {
    get size() {
      return all().length;
    },
    all,
    recent: all,
    polled: () => undefined,
  };
}

describe('a store that tells of new messages', () => {
  const clock = new VirtualClock();
  let store: WatchingStore;
  let consumed: string[];
  let woken: string[];
  let logged: string[];
  let wakeUps: WakeUps;

  beforeEach(() => {
    store = new WatchingStore();
    consumed = [];
    woken = [];
    logged = [];
    const log = (line: string) => void logged.push(line);
    wakeUps = new WakeUps(
      store,
      clock,
      { log, warn: log, error: log },
      new Activity(),
      awaitingAll(() => []),
      () => consumed,
      (stream) => void woken.push(stream),
      () => undefined,
    );
    wakeUps.start();
  });

  afterEach(() => wakeUps.stop());

  const follow = async (...streams: string[]) => {
    consumed = streams;
    wakeUps.follow();
    await clock.advance(100);
    return store.watches.at(-1);
  };

  it('is asked for the streams that are consumed here, together, and for no others', async () => {
    consumed = ['b', 'a', 'b'];
    wakeUps.follow();
    wakeUps.follow();
    await clock.advance(100);
    expect(store.watches.map(({ streams }) => streams)).toEqual([['a', 'b']]);
    const [first] = store.watches;
    await follow('a', 'b');
    expect(store.watches).toHaveLength(1);
    await follow('a');
    expect(first?.signal.aborted).toBe(true);
    expect(store.watches.map(({ streams }) => streams)).toEqual([['a', 'b'], ['a']]);
    first?.watcher.wake('a');
    expect(woken).toEqual([]);
    store.watches[1]?.watcher.wake('a');
    expect(woken).toEqual(['a']);
    await follow();
    expect(store.watches).toHaveLength(2);
    expect(store.watches[1]?.signal.aborted).toBe(true);
  });

  it('says once why it can not, and that it can again', async () => {
    const watch = await follow('a');
    expect(wakeUps.status).toEqual({ by: 'polling' });
    watch?.watcher.started();
    expect(wakeUps.status).toEqual({ by: 'watching' });
    watch?.watcher.failed(new Error('not authorized'));
    watch?.watcher.failed(new Error('not authorized'));
    expect(wakeUps.status).toMatchObject({ by: 'polling', lastError: { message: 'not authorized' } });
    expect(logged).toEqual(["The store can't notify of new messages, polling until it can: not authorized"]);
    watch?.watcher.started();
    expect(wakeUps.status).toEqual({ by: 'watching' });
    expect(logged).toHaveLength(2);
  });

  it('is polled in silence where it never can', async () => {
    store.answer = () => Promise.resolve();
    await follow('a');
    expect(wakeUps.status).toEqual({ by: 'polling' });
    expect(logged).toEqual([]);
  });
});

describe('a store that is polled', () => {
  const KEY = { stream: 's', group: 'default', partition: 0 };

  function wakeUpsOf(store: MemoryStreamStore, clock: VirtualClock, awaiting: AwaitingConsumers): WakeUps {
    const log = () => undefined;
    return new WakeUps(
      store,
      clock,
      { log, warn: log, error: log },
      new Activity(),
      awaiting,
      () => [KEY.stream],
      () => undefined,
      () => undefined,
    );
  }

  /** Runs for 20 busy polls, with something that happens between them. */
  async function polls(news: boolean, happens: (wakeUps: WakeUps) => void) {
    const clock = new VirtualClock();
    const store = new MemoryStreamStore();
    const at: number[] = [];
    store.poll = () => {
      at.push(clock.monotonic());
      return Promise.resolve([news ? String(at.length) : '']);
    };
    const consumer = { key: KEY, wake: () => undefined };
    const wakeUps = wakeUpsOf(
      store,
      clock,
      awaitingAll(() => [consumer]),
    );
    wakeUps.start();
    for (let ms = 0; ms < 20 * store.polling.busy; ms += 1) {
      if (ms % 7 === 3) happens(wakeUps);
      await clock.advance(1);
    }
    wakeUps.stop();
    return { pauses: at.map((time, index) => time - (at[index - 1] ?? 0)), ...store.polling };
  }

  it('is polled at its busy pace while news come, whether this process appends meanwhile or not', async () => {
    const quiet = await polls(true, () => undefined);
    expect(new Set(quiet.pauses)).toEqual(new Set([quiet.busy]));
    const appending = await polls(true, (wakeUps) => wakeUps.pollSoon());
    expect(appending).toEqual(quiet);
  });

  it('is polled ever less often without news, but for what the first poll tells', async () => {
    const { pauses, busy } = await polls(false, () => undefined);
    expect(pauses.slice(0, 3)).toEqual([busy, busy, 2 * busy]);
  });

  describe('for many consumers', () => {
    const COUNT = 1_000;

    /** Polls of a second and a half, of which a message comes after one; `recent` are the first two consumers. */
    async function pollsOf(store: MemoryStreamStore) {
      const clock = new VirtualClock();
      const asked: { readonly at: number; readonly streams: readonly string[] }[] = [];
      store.poll = (keys) => {
        asked.push({ at: clock.monotonic(), streams: keys.map(({ stream }) => stream) });
        // Always news for the first one: the others are to rest all the same.
        return Promise.resolve(keys.map(({ stream }) => (stream === 's0' ? String(asked.length) : '')));
      };
      const consumers = Array.from({ length: COUNT }, (_, n) => ({
        key: { ...KEY, stream: `s${n}` },
        wake: () => undefined,
      }));
      const wakeUps = wakeUpsOf(store, clock, {
        size: COUNT,
        all: () => consumers,
        recent: (streams = []) => [
          ...new Set([...consumers.slice(0, 2), ...consumers.filter(({ key }) => [...streams].includes(key.stream))]),
        ],
        polled: () => undefined,
      });
      wakeUps.start();
      await clock.advance(10 * store.polling.idle);
      wakeUps.stop();
      return asked;
    }

    it('asks for those that rest at the pace of rest, and for the others at the busy pace', async () => {
      const store = new MemoryStreamStore();
      const asked = await pollsOf(store);
      const ofAll = asked.filter(({ streams }) => streams.length === COUNT);
      const { busy, idle } = store.polling;
      expect(asked.length).toBeGreaterThan((10 * idle) / busy / 2);
      expect(ofAll.length).toBeGreaterThanOrEqual(9);
      expect(ofAll.length).toBeLessThanOrEqual(11);
      expect(new Set(asked.map(({ streams }) => streams.length))).toEqual(new Set([COUNT, 2]));
    });

    it('asks only for those that the store says have changed', async () => {
      const marks: (string | undefined)[] = [];
      const store = Object.assign(new MemoryStreamStore(), {
        changedStreams: (since: string | undefined) => {
          marks.push(since);
          return Promise.resolve({ mark: String(marks.length), streams: marks.length === 3 ? ['s500'] : [] });
        },
      });
      const asked = await pollsOf(store);
      expect(marks.slice(0, 4)).toEqual([undefined, '1', '2', '3']);
      expect(asked[0]?.streams).toHaveLength(COUNT);
      const others = asked.slice(1).filter(({ streams }) => streams.length !== 2);
      expect(others.map(({ streams }) => streams)).toEqual([['s0', 's1', 's500']]);
    });

    it('asks for all of them again if the poll of what has changed fails', async () => {
      const clock = new VirtualClock();
      const marks: (string | undefined)[] = [];
      const store = Object.assign(new MemoryStreamStore(), {
        changedStreams: (since: string | undefined) => {
          marks.push(since);
          return Promise.resolve({ mark: String(marks.length), streams: ['s'] });
        },
      });
      let failures = 2;
      store.poll = () => (failures-- > 0 ? Promise.reject(new Error('away')) : Promise.resolve(['']));
      const wakeUps = wakeUpsOf(
        store,
        clock,
        awaitingAll(() => [{ key: KEY, wake: () => undefined }]),
      );
      wakeUps.start();
      await clock.advance(6 * store.polling.idle);
      wakeUps.stop();
      expect(marks.slice(0, 4)).toEqual([undefined, undefined, undefined, '3']);
    });
  });

  it('is polled anew for a consumer that has left and come back', async () => {
    const clock = new VirtualClock();
    const store = new MemoryStreamStore();
    store.poll = () => Promise.resolve(['same']);
    let woken = 0;
    const consumer = () => ({ key: { ...KEY }, wake: () => void (woken += 1) });
    let current = consumer();
    const wakeUps = wakeUpsOf(
      store,
      clock,
      awaitingAll(() => [current]),
    );
    wakeUps.start();
    await clock.advance(10 * store.polling.idle);
    expect(woken).toBe(1);
    current = consumer();
    await clock.advance(10 * store.polling.idle);
    expect(woken).toBe(2);
    wakeUps.stop();
  });
});
