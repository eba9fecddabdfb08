import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { delay } from '../common/clock.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import type { Commit, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { FixedTimeWindow } from '../windows/fixed-time.window.js';
import { advance, laterEnd } from './committer.js';
import type { NamedSink } from './engine.interface.js';
import { inFlightWindow } from './in-flight-window.js';
import { type ConsumerChoice, LEASE, Process, STREAM, turns } from './process.spec.support.js';

const upTo = (n: number) => Array.from({ length: n }, (_, index) => index);

describe('commits', () => {
  let database: MemoryDatabase;
  let commits: (readonly number[])[];
  let settled: number;
  /** Settlements wait for it. */
  let gate: { readonly opened: Promise<void>; open(): void };
  const processes: Process[] = [];

  beforeEach(() => {
    database = new MemoryDatabase();
    [commits, settled] = [[], 0];
    let open = (): void => undefined;
    const opened = new Promise<void>((resolve) => (open = resolve));
    gate = { opened, open };
  });
  afterEach(async () => {
    gate.open();
    for (const each of processes.splice(0)) if (each.started) await each.engine.stop(0);
  });

  const watched = async (call: StoreCall) => {
    if (call.method === 'commit') commits.push((call.args[1] as Commit).finished);
    if (call.method !== 'settle') return call.proceed();
    await gate.opened;
    const result = await call.proceed();
    settled += 1;
    return result;
  };

  /** Windows of two, four messages to a full commit. */
  const start = async (
    clock = new VirtualClock(),
    around?: typeof watched,
    choice: ConsumerChoice = { size: 2 },
    readAhead = 4,
  ) => {
    const made = new Process(database, { clock, engine: { readAhead }, ...(around && { around }) });
    processes.push(made);
    made.started = true;
    await made.consumer(choice).engine.start();
    return made;
  };
  const left = async (p: Process) => (await p.store.stats([STREAM]))[0]?.buffered;
  const progress = async (p: Process) => (await p.store.stats([STREAM]))[0]?.consumers[0]?.progress;

  it('write the next full one while messages leave, name the windows of both, and go no further ahead', async () => {
    const p = await start(undefined, watched);
    await p.put(...upTo(20));
    await turns(() => commits.length === 2);
    await turns(() => commits.length > 2, 50);
    expect(commits).toEqual([
      [1, 2],
      [1, 2, 3, 4],
    ]);
    gate.open();
    await p.engine.settled();
    expect(p.values).toEqual(upTo(20));
    expect(await left(p)).toBe(0);
    expect(p.engine.status()[0]).toMatchObject({ committedWindows: 10, committedMessages: 20, inFlight: 0 });
    expect(await progress(p)).toEqual({ lastSeq: 10, windows: 10, messages: 20 });
  });

  it('go ahead as soon as the messages of a full one wait', async () => {
    const p = await start(undefined, watched);
    await p.put(...upTo(8));
    await turns(() => commits.length === 2, 100);
    expect(commits).toEqual([
      [1, 2],
      [1, 2, 3, 4],
    ]);
    expect(p.engine.status()[0]).toMatchObject({ committedWindows: 4, inFlight: 4 });
  });

  it('are full when no other window of the kind fits in', async () => {
    const p = await start(undefined, watched, { size: 3 });
    await p.put(...upTo(6));
    await turns(() => commits.length === 2, 100);
    expect(commits).toEqual([[1], [1, 2]]);
    expect(settled).toBe(0);
    gate.open();
    await p.engine.settled();
    expect(p.values).toEqual(upTo(6));
    expect(await left(p)).toBe(0);
  });

  it('are written one at a time', async () => {
    let answer = (): void => undefined;
    const p = await start(undefined, async (call) => {
      if (call.method === 'commit') {
        commits.push((call.args[1] as Commit).finished);
        if (commits.length === 1) await new Promise<void>((resolve) => (answer = resolve));
      }
      return call.proceed();
    });
    await p.put(...upTo(12));
    await turns(() => commits.length > 1, 100);
    expect(commits).toEqual([[1, 2]]);
    answer();
    await p.engine.settled();
    // Four messages each, however many wait.
    expect(commits).toEqual([
      [1, 2],
      [1, 2, 3, 4],
      [3, 4, 5, 6],
    ]);
    expect(p.values).toEqual(upTo(12));
    expect(await progress(p)).toEqual({ lastSeq: 6, windows: 6, messages: 12 });
  });

  for (const { most, per, commit } of [
    { most: 1, per: 10_000, commit: [1] },
    { most: 3, per: 10_000, commit: [1, 2, 3] },
    { most: 1, per: 24, commit: undefined },
  ]) {
    const when = commit ? 'once the rate limit holds back all others' : 'not if the next one may begin soon';
    it(`take what is finished, ${when}: ${most} in ${per} ms`, async () => {
      const rateLimit = { unit: 'windows', most, per } as const;
      const p = await start(undefined, watched, { size: 1, rateLimit });
      gate.open();
      await p.put(...upTo(4));
      await p.engine.settled();
      expect(p.values).toEqual(upTo(most));
      expect([commits, await left(p)]).toEqual(commit ? [[commit], 4 - most] : [[], 4]);
    });
  }

  describe('while another window', () => {
    const retry = { base: 1_000, max: 60_000, jitter: 0, attempts: 5 };
    const failing = { handler: ({ data }: { data: readonly unknown[] }) => void (data[0] === 0 && fail()), sinks: [] };
    const fail = () => {
      throw new Error('no');
    };
    const sink = (put: (data: readonly unknown[]) => unknown): NamedSink => ({
      name: 'sink',
      sink: { put: async (_, { data }) => void (await put(data)) },
    });
    const blocking = sink((data) => void (data[0] === 0 && fail()));
    const hanging = sink((data) => (data[0] === 0 ? new Promise<void>(() => undefined) : undefined));
    const delivering = (...sinks: NamedSink[]) => ({ handler: () => 'result', sinks });

    it.each([
      { what: 'waits for its next attempt', choice: failing, workers: 2, expected: [[2]] },
      { what: 'waits for its next attempt in the only worker', choice: failing, workers: 1, expected: [[1]] },
      { what: 'waits for its sink', choice: delivering(blocking), workers: 2, expected: [[2]] },
      { what: 'waits for two sinks', choice: delivering(blocking, blocking), workers: 2, expected: [[2]] },
      {
        what: 'waits for one sink of two',
        choice: delivering(
          sink(() => undefined),
          blocking,
        ),
        workers: 2,
        expected: [[2]],
      },
      { what: 'is in one sink of two', choice: delivering(hanging, blocking), workers: 2, expected: [] },
      {
        what: 'will be tried again soon',
        choice: { ...failing, retry: { ...retry, base: 24 } },
        workers: 2,
        expected: [],
      },
    ])('$what, take these at once: $expected', async ({ choice, workers, expected }) => {
      const p = await start(undefined, watched, { size: 1, workers, retry, ...choice });
      gate.open();
      await (workers === 1 ? p.put(1, 0, 2) : p.put(0, 1));
      await turns(() => false, 100);
      // A sink that takes nothing would not let it stop.
      p.kill();
      p.started = false;
      expect(commits).toEqual(expected);
    });
  });

  it('wait for other windows that run, but not for longer than 25 ms after the first was finished', async () => {
    let finish = (): void => undefined;
    const handler = ({ data }: { data: readonly unknown[] }) =>
      data[0] === 0 ? new Promise<void>((resolve) => (finish = resolve)) : undefined;
    const p = await start(undefined, watched, { size: 1, workers: 2, handler });
    const pass = (ms: number) => p.clock.advance(ms, () => turns(() => false, 10));
    gate.open();
    await pass(1_000);
    await p.put(0, 1);
    await turns(() => p.seen.length === 2);
    await pass(20);
    await p.put(2);
    await turns(() => p.seen.length === 3);
    await pass(4);
    expect(commits).toEqual([]);
    await pass(1);
    expect(commits).toEqual([[2, 3]]);
    finish();
    await p.engine.settled();
    expect(await progress(p)).toEqual({ lastSeq: 3, windows: 3, messages: 3 });
  });

  describe('of a store that keeps three windows in a record', () => {
    const inRecords = async (call: StoreCall) => {
      const result = await watched(call);
      if (call.method !== 'claim') return result;
      const seqs = (call.args[1] as readonly WindowRecord[]).map(({ seq }) => seq);
      return seqs.filter((seq, index) => index % 3 === 2 || seq === seqs.at(-1));
    };

    it('leave windows of a record that is not whole to the next one, which gathers for another 25 ms', async () => {
      let finish = (): void => undefined;
      const handler = ({ data }: { data: readonly unknown[] }) =>
        data[0] === 4 ? new Promise<void>((resolve) => (finish = resolve)) : undefined;
      const p = await start(undefined, inRecords, { size: 1, handler }, 8);
      const pass = (ms: number) => p.clock.advance(ms, () => turns(() => false, 10));
      gate.open();
      await p.put(...upTo(6));
      await turns(() => p.seen.length === 5);
      await pass(24);
      expect(commits).toEqual([]);
      await pass(1);
      expect([commits, settled]).toEqual([[[1, 2, 3]], 1]);
      await pass(24);
      expect(commits).toEqual([[1, 2, 3]]);
      await pass(1);
      expect(commits).toEqual([[1, 2, 3], [4]]);
      finish();
      await p.engine.settled();
      expect(commits).toEqual([[1, 2, 3], [4], [5, 6]]);
      expect(await progress(p)).toEqual({ lastSeq: 6, windows: 6, messages: 6 });
    });

    it('take what is finished, whole records or not, when nothing else is about to finish', async () => {
      const handler = ({ data }: { data: readonly unknown[] }) => {
        if (data[0] === 4) throw new Error('tried again in a second');
      };
      const p = await start(undefined, inRecords, { size: 1, handler }, 8);
      gate.open();
      await p.put(...upTo(6));
      await turns(() => settled === 1);
      expect(commits).toEqual([[1, 2, 3, 4]]);
      p.kill();
      p.started = false;
    });
  });

  it('are the end of a window that an operator gives up while it leaves: the request stays until it has left', async () => {
    const p = await start(undefined, watched);
    await p.put(...upTo(4));
    await turns(() => commits.length === 1);
    const [window] = p.seen;
    await p.store.updateStream(STREAM, {
      request: { group: 'default', window: window?.id ?? '', action: 'giveUp' },
    });
    await p.store.updateStream(STREAM, { request: { group: 'default', window: 'gone', action: 'giveUp' } });
    const requests = async () =>
      (await p.store.describeStream(STREAM))?.requests?.map((request) => request.window) ?? [];
    await p.engine.refresh(STREAM);
    await turns(() => false, 50);
    // That of a window that is nowhere is answered at once.
    expect(await requests()).toEqual([window?.id]);
    gate.open();
    await p.engine.settled();
    expect(await requests()).toEqual([]);
    expect((await p.store.stats([STREAM]))[0]).toMatchObject({ buffered: 0, deadLetters: 0 });
  });

  it('keep the end of the last interval across a restart, also after the clock was set back', async () => {
    const fixed: ConsumerChoice = { interval: 10_000, emitter: new FixedTimeWindow() };
    const run = async (now: number) => {
      const p = await start(new VirtualClock(now), undefined, { ...fixed, emitter: new FixedTimeWindow() });
      await p.append(0);
      await p.advance(12_000);
      const stored = await progress(p);
      await p.engine.stop(0);
      return stored;
    };
    const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, seconds));
    expect(await run(at(100).getTime())).toEqual({ lastSeq: 1, windows: 1, messages: 1, lastEnd: at(110) });
    expect(await run(at(30).getTime())).toEqual({ lastSeq: 2, windows: 2, messages: 2, lastEnd: at(40) });
    expect(await run(at(200).getTime())).toEqual({ lastSeq: 3, windows: 3, messages: 3, lastEnd: at(210) });
  });

  it('gather what is not full until the messages of the one before have left', async () => {
    const p = await start(undefined, watched);
    await p.put(...upTo(4));
    await turns(() => commits.length === 1);
    await p.put(4, 5);
    await turns(() => p.seen.length === 3);
    await p.clock.advance(1_000);
    await turns(() => commits.length > 1, 50);
    expect(commits).toEqual([[1, 2]]);
    gate.open();
    await p.engine.settled();
    expect(commits).toEqual([[1, 2], [3]]);
    expect(settled).toBe(2);
  });

  it('of a process that died while the messages of two were leaving are settled by the next, and handled no more', async () => {
    const first = await start(undefined, watched);
    await first.put(...upTo(20));
    await turns(() => commits.length === 2);
    first.kill();
    first.started = false;
    const clock = new VirtualClock(first.clock.now());
    const second = await start(clock);
    for (let i = 0; i < 10; i += 1) await second.advance(LEASE);
    await second.engine.settled();
    expect(second.values).toEqual(upTo(20).slice(8));
    expect(await left(second)).toBe(0);
  });

  it.each([
    { after: 11_500, begins: true },
    { after: 13_000, begins: false },
  ])(
    'renew the lease as of their sending: $after ms later the next window begins without asking: $begins',
    async ({ after, begins }) => {
      const clock = new VirtualClock();
      let [slow, delays] = [false, 0];
      const renewals: (() => void)[] = [];
      const p = await start(clock, async (call) => {
        if (slow && call.method === 'renewLeases') await new Promise<void>((resolve) => renewals.push(resolve));
        const result = await call.proceed();
        if (call.method === 'commit' && delays-- > 0) await delay(clock, 10_000);
        return result;
      });
      await p.append(0, 1);
      await clock.advance(3_000, () => turns(() => false, 5));
      [slow, delays] = [true, 1];
      await p.put(2, 3);
      await turns(() => p.seen.length === 2);
      await clock.advance(after, () => turns(() => false, 5));
      await p.put(4, 5);
      await turns(() => p.seen.length === 3, 50);
      expect(p.seen).toHaveLength(begins ? 3 : 2);
      slow = false;
      for (const answer of renewals) answer();
      await p.engine.settled();
      expect(p.values).toEqual(upTo(6));
    },
  );
});

describe('the end of the last interval', () => {
  const at = (seconds: number) => new Date(seconds * 1_000);

  it.each([
    { what: 'is that of the first window', last: undefined, window: { end: at(10) }, isNewer: false, expected: at(10) },
    { what: 'moves on', last: at(10), window: { end: at(20) }, isNewer: false, expected: at(20) },
    { what: 'stays with an earlier window', last: at(20), window: { end: at(10) }, isNewer: false, expected: at(20) },
    { what: 'goes back with the clock', last: at(20), window: { end: at(10) }, isNewer: true, expected: at(10) },
    {
      what: 'is not that of a late window',
      last: at(20),
      window: { end: at(30), late: true },
      isNewer: true,
      expected: at(20),
    },
    { what: 'stays with a window without one', last: at(20), window: {}, isNewer: true, expected: at(20) },
  ])('$what', ({ last, window, isNewer, expected }) => {
    expect(laterEnd(last, window, isNewer)).toEqual(expected);
  });

  /** Windows of one message, each finished in this order. */
  const after = (...windows: readonly Pick<WindowRecord, 'seq' | 'late' | 'end'>[]) => {
    const none = { lastSeq: 0, windows: 0, messages: 0 };
    const message = { id: 'm' } as StoredMessage;
    const finished = windows.map((some) => inFlightWindow(some as WindowRecord, [message], false));
    return advance(none, 0, finished).progress;
  };

  it('is that of the window cut last, in whatever order they are finished', () => {
    const [first, second] = [
      { seq: 1, end: at(10) },
      { seq: 2, end: at(20) },
    ];
    const expected = { lastSeq: 2, windows: 2, messages: 2, lastEnd: at(20) };
    expect(after(first, second)).toEqual(expected);
    expect(after(second, first)).toEqual(expected);
  });

  it.each([
    { what: 'a late window', other: { seq: 3, end: at(10), late: true } },
    { what: 'a window of rejected messages', other: { seq: 3 } },
  ])('goes back with the clock, though $what cut later is finished before', ({ other }) => {
    const [first, back] = [
      { seq: 1, end: at(20) },
      { seq: 2, end: at(15) },
    ];
    const expected = { lastSeq: 3, windows: 3, messages: 3, lastEnd: at(15) };
    expect(after(first, other, back)).toEqual(expected);
  });
});
