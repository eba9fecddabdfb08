import { beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { Lease, WindowRecord } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { MessageBuffer } from '../windows/message-buffer.js';
import { type MessageView, type ReadPlan, type Selection, WindowEmitter } from '../windows/window-emitter.js';
import { type InFlightWindow, WindowState } from './in-flight-window.js';
import { InFlightWindows } from './in-flight-windows.js';
import type { ReadMessage } from './owned-messages.js';
import { range } from './processes.spec.support.js';
import { WindowClaimer } from './window-claimer.js';

const KEY = { stream: 's', group: 'default', partition: 0 };
const LEASE = { key: KEY, fence: 1 } as Lease;

/** Takes two at a time, and drops what is negative. */
class Scripted extends WindowEmitter {
  asked = 0;
  check: number | undefined;
  failsIn: 'windowReady' | 'nextCheck' | 'reads' | undefined;

  override windowReady(view: MessageView): boolean {
    this.asked += 1;
    if (this.failsIn === 'windowReady') throw new Error('no strategy');
    return view.length >= 2;
  }

  override query(view: MessageView): Selection {
    const [take, drop] = [true, false].map((kept) => view.messages.filter(({ data }) => Number(data) >= 0 === kept));
    return { take: take!.slice(0, 2), drop: drop! };
  }

  override nextCheck(): number | undefined {
    if (this.failsIn === 'nextCheck') throw new Error('no check');
    return this.check;
  }

  override reads(): ReadPlan {
    if (this.failsIn === 'reads') throw new Error('no plan');
    return { order: 'append', room: 7 };
  }
}

describe('a claimer', () => {
  let clock: VirtualClock;
  let emitter: Scripted;
  let windows: InFlightWindows;
  let buffer: MessageBuffer<ReadMessage>;
  let readAhead: { isRestarting: boolean; isIdle: boolean; isReading: boolean; idleUntil: number | undefined };
  let claimer: WindowClaimer;
  let records: WindowRecord[];
  let committed: InFlightWindow[];
  let failures: unknown[];
  let counters: { dropped: number };
  let passes: number;
  let flushes: number;
  let tasks: Promise<void>[];
  /** Lets the store answer. */
  let answer: () => void;

  beforeEach(() => {
    clock = new VirtualClock();
    emitter = new Scripted();
    windows = new InFlightWindows();
    buffer = new MessageBuffer<ReadMessage>();
    [records, committed, failures, tasks] = [[], [], [], []];
    [passes, flushes] = [0, 0];
    answer = () => undefined;
    readAhead = { isRestarting: false, isIdle: false, isReading: false, idleUntil: undefined };
    const reader = Object.assign(readAhead, {
      buffer,
      show: (now: number, monotonic: number) => Object.assign(buffer, { now, monotonic }),
      remove: (messages: readonly ReadMessage[]) => buffer.remove(messages),
      flushed: () => {
        flushes += 1;
        buffer.flushing = false;
      },
    });
    const store = {
      claim: (lease: Lease, some: readonly WindowRecord[]) => {
        expect(lease).toBe(LEASE);
        records.push(...some);
        return new Promise<void>((resolve) => (answer = resolve));
      },
    };
    const log = { log: () => undefined, warn: () => undefined, error: () => undefined };
    const failed = (_at: number, _error: unknown, code: unknown) => void failures.push(code);
    counters = Object.assign({ dropped: 0 }, { failed });
    const term = {
      definition: { emitter, maxSize: 3, maxBytes: 1_000, key: KEY },
      lease: LEASE,
      counters,
      parts: { clock, store, log },
      persist: (_what: string, call: () => Promise<unknown>) => call(),
    };
    const scheduler = {
      schedule: () => void (passes += 1),
      startTask: (work: () => Promise<void>) => void tasks.push(work()),
    };
    const committer = { add: (open: InFlightWindow) => void committed.push(open) };
    type Given = ConstructorParameters<typeof WindowClaimer>;
    const given = [term, windows, reader, committer, scheduler] as unknown as Given;
    claimer = new WindowClaimer(...given);
  });

  let ids = 0;
  function put(...data: readonly unknown[]): readonly ReadMessage[] {
    return push(data.map((item) => ({ id: `m${(ids += 1)}`, data: item, read: () => item })));
  }

  function putBad(count: number): void {
    const read = () => {
      throw new Error('undecodable');
    };
    push(range(0, count).map((n) => ({ id: `bad${n}`, read })));
  }

  function push(some: readonly object[]): readonly ReadMessage[] {
    const messages = some.map((each) => ({ ...each, bytes: 1, created: new Date() }) as unknown as ReadMessage);
    buffer.push(messages);
    return messages;
  }

  async function stored(): Promise<void> {
    answer();
    await Promise.all(tasks);
  }

  it('claims what the strategy makes, with numbers that continue, and makes it ready when that is stored', async () => {
    claimer.resume(5);
    const messages = put(1, 2, 3, 4, 5);
    claimer.claimReady();
    const created = new Date(clock.now());
    const idsOf = (from: number) => messages.slice(from, from + 2).map(({ id }) => id);
    expect(records).toMatchObject([
      { seq: 5, messageIds: idsOf(0), created, attempt: 1, recoveries: 0 },
      { seq: 6, messageIds: idsOf(2), created, attempt: 1, recoveries: 0 },
    ]);
    expect(records.every((record) => !('dropped' in record))).toBe(true);
    expect(new Set(records.map(({ id }) => id)).size).toBe(2);
    expect([claimer.isClaiming, windows.in(WindowState.Claiming).windows]).toEqual([true, 2]);
    await stored();
    expect([claimer.isClaiming, windows.in(WindowState.Ready).windows]).toEqual([false, 2]);
    expect(buffer.length).toBe(1);
    expect([committed, counters.dropped]).toEqual([[], 0]);
  });

  it('asks the strategy again only when there is news, or at the time that it wants', async () => {
    const asked = () => {
      const before = emitter.asked;
      claimer.claimReady();
      return emitter.asked > before;
    };
    expect([asked(), asked()]).toEqual([true, false]);
    claimer.ask();
    emitter.check = clock.now() + 1_000;
    expect([asked(), asked()]).toEqual([true, false]);
    await clock.advance(999);
    expect(asked()).toBe(false);
    await clock.advance(1);
    emitter.check = undefined;
    expect([asked(), asked()]).toEqual([true, false]);
    await clock.advance(100_000);
    expect(asked()).toBe(false);
    // A claim is news: what is left may be another window.
    claimer.ask();
    put(1, 2);
    expect(asked()).toBe(true);
    await stored();
    expect([asked(), asked()]).toEqual([true, false]);
  });

  it.each(['isRestarting', 'isIdle'] as const)('does not ask the strategy while reading %s', (what) => {
    put(1, 2);
    readAhead[what] = true;
    claimer.claimReady();
    expect([emitter.asked, records]).toEqual([0, []]);
    readAhead[what] = false;
    claimer.claimReady();
    expect(records).toHaveLength(1);
  });

  it('claims once at a time', async () => {
    put(1, 2);
    claimer.claimReady();
    put(3, 4);
    claimer.claimReady();
    expect(records).toHaveLength(1);
    await stored();
    claimer.claimReady();
    expect(records.map(({ seq }) => seq)).toEqual([1, 2]);
  });

  it('leaves a strategy that fails alone for longer and longer, until it answers', async () => {
    const fail = () => {
      claimer.claimReady();
      expect(claimer.isResting).toBe(true);
      return claimer.wait(clock.now(), true);
    };
    expect(claimer.isResting).toBe(false);
    emitter.failsIn = 'windowReady';
    put(1, 2);
    for (const [longest, count] of [
      [1_000, 1],
      [2_000, 2],
      [4_000, 3],
    ] as const) {
      const wait = fail();
      expect(wait).toBeGreaterThanOrEqual(longest * 0.9);
      expect(wait).toBeLessThanOrEqual(longest);
      expect(failures).toHaveLength(count);
      claimer.claimReady();
      expect(emitter.asked).toBe(count);
      await clock.advance(longest);
      expect(claimer.isResting).toBe(false);
    }
    expect(new Set(failures)).toEqual(new Set([ErrorCode.EmitterFailed]));
    expect(records).toEqual([]);
    emitter.failsIn = undefined;
    claimer.claimReady();
    expect(records).toHaveLength(1);
    await stored();
    emitter.failsIn = 'windowReady';
    expect(fail()).toBeLessThanOrEqual(1_000);
  });

  it('claims what was cut though the strategy fails when it is asked what comes next', async () => {
    emitter.failsIn = 'nextCheck';
    emitter.check = clock.now();
    put(1, 2);
    claimer.claimReady();
    expect([records.length, failures]).toEqual([1, [ErrorCode.EmitterFailed]]);
    await stored();
    expect(claimer.isResting).toBe(true);
    expect(claimer.wait(clock.now(), true)).toBeGreaterThan(100);
  });

  it('has the plan of the strategy, and none if it fails', () => {
    expect(claimer.plan(clock.now())).toEqual({ order: 'append', room: 7 });
    expect(failures).toEqual([]);
    emitter.failsIn = 'reads';
    expect(claimer.plan(clock.now())).toBeUndefined();
    expect([failures, claimer.isResting]).toEqual([[ErrorCode.EmitterFailed], true]);
  });

  it('takes undecodable messages out of the sight of a strategy that fails, as windows of their own', async () => {
    emitter.failsIn = 'windowReady';
    put(1);
    putBad(4);
    claimer.claimReady();
    expect(records.map(({ messageIds }) => messageIds)).toEqual([['bad0', 'bad1', 'bad2'], ['bad3']]);
    expect(records.every((record) => !('dropped' in record))).toBe(true);
    expect([failures, claimer.isResting, buffer.length]).toEqual([[], false, 1]);
    await stored();
    expect(windows.in(WindowState.Ready).windows).toBe(2);
    // It is asked again, and now the fault is its own.
    claimer.claimReady();
    expect([failures, emitter.asked]).toEqual([[ErrorCode.EmitterFailed], 2]);
  });

  it('commits what the strategy drops without a handler, and counts it once it is stored', async () => {
    put(-1, -2, -3, -4, 1, 2);
    claimer.claimReady();
    expect(records.map(({ messageIds, dropped }) => [messageIds.length, dropped])).toEqual([
      [2, undefined],
      [3, true],
      [1, true],
    ]);
    expect(counters.dropped).toBe(0);
    await stored();
    expect(counters.dropped).toBe(4);
    expect(committed.map(({ record }) => record.seq)).toEqual([2, 3]);
    expect(windows.in(WindowState.Ready).windows).toBe(1);
  });

  it('claims messages for no handler in windows of the largest size', async () => {
    const messages = put(1, 2, 3, 4);
    const done = claimer.claimUnhandled(messages);
    expect(records.map(({ seq, messageIds, dropped }) => [seq, messageIds.length, dropped])).toEqual([
      [1, 3, true],
      [2, 1, true],
    ]);
    answer();
    await done;
    expect(committed.map(({ record }) => record.seq)).toEqual([1, 2]);
    expect([claimer.isClaiming, counters.dropped]).toEqual([false, 0]);
  });

  it('ends a flush when all has been read and the strategy takes no more', () => {
    put(-1);
    buffer.flushing = true;
    claimer.claimReady();
    expect([flushes, passes]).toEqual([0, 0]);
    buffer.remove(buffer.messages);
    buffer.complete = true;
    claimer.ask();
    claimer.claimReady();
    expect([flushes, passes, buffer.flushing]).toEqual([1, 1, false]);
    // The strategy sees that as well.
    const { asked } = emitter;
    claimer.claimReady();
    expect([emitter.asked, flushes]).toEqual([asked + 1, 1]);
  });

  describe('waits', () => {
    const wait = (isActive = true) => claimer.wait(clock.now(), isActive);
    const wants = (at: number | undefined) => {
      emitter.check = at;
      claimer.ask();
      claimer.claimReady();
    };

    it('for what comes first, the time of the strategy or that of its plan', () => {
      expect(wait()).toBe(Infinity);
      wants(clock.now() + 500);
      expect([wait(), wait(false)]).toEqual([500, Infinity]);
      readAhead.idleUntil = clock.now() + 300;
      expect(wait()).toBe(300);
      readAhead.idleUntil = clock.now() + 800;
      expect(wait()).toBe(500);
      // What a strategy said that reads nothing now is of no interest.
      readAhead.isIdle = true;
      expect(wait()).toBe(800);
      readAhead.idleUntil = Number.NaN;
      expect(wait()).toBe(Infinity);
    });

    it('longer and longer for a strategy that wants what it has had to no effect', async () => {
      wants(clock.now());
      const waits = range(0, 12).map(() => {
        const each = wait();
        claimer.waited();
        return each;
      });
      expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 1_000]);
      // Time on its own does not help, a claim does.
      put(1, 2);
      claimer.ask();
      claimer.claimReady();
      expect(wait()).toBe(Infinity);
      await stored();
      expect(wait()).toBe(1);
      claimer.waited();
      expect(wait()).toBe(2);
      wants(clock.now() + 50);
      expect(wait()).toBe(50);
      claimer.waited();
      wants(clock.now());
      expect(wait()).toBe(1);
    });

    it('for the read in flight, whose end is news', () => {
      wants(clock.now());
      readAhead.isReading = true;
      expect(wait()).toBe(Infinity);
      readAhead.isReading = false;
      expect(wait()).toBe(1);
    });
  });

  it('is stalled while the strategy takes nothing of a buffer that takes no more', () => {
    expect(claimer.isStalled).toBe(false);
    put(1);
    buffer.saturated = true;
    claimer.claimReady();
    expect(claimer.isStalled).toBe(true);
  });
});
