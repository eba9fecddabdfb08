import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Activity } from '../common/activity.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { StreamWatcher } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { type AwaitingConsumer, WakeUps } from './wake-ups.js';

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
      () => [],
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

  function wakeUpsOf(store: MemoryStreamStore, clock: VirtualClock, consumer: () => AwaitingConsumer): WakeUps {
    const log = () => undefined;
    return new WakeUps(
      store,
      clock,
      { log, warn: log, error: log },
      new Activity(),
      () => [consumer()],
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
    const wakeUps = wakeUpsOf(store, clock, () => consumer);
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

  it('is polled anew for a consumer that has left and come back', async () => {
    const clock = new VirtualClock();
    const store = new MemoryStreamStore();
    store.poll = () => Promise.resolve(['same']);
    let woken = 0;
    const consumer = () => ({ key: { ...KEY }, wake: () => void (woken += 1) });
    let current = consumer();
    const wakeUps = wakeUpsOf(store, clock, () => current);
    wakeUps.start();
    await clock.advance(10 * store.polling.idle);
    expect(woken).toBe(1);
    current = consumer();
    await clock.advance(10 * store.polling.idle);
    expect(woken).toBe(2);
    wakeUps.stop();
  });
});
