import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { delay } from '../internal/clock.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import type { Commit } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { LEASE, Process, STREAM, turns } from './process.spec.support.js';

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
  const start = async (clock = new VirtualClock(), around?: typeof watched) => {
    const made = new Process(database, { clock, engine: { readAhead: 4 }, ...(around && { around }) });
    processes.push(made);
    made.started = true;
    await made.consumer({ size: 2 }).engine.start();
    return made;
  };
  const left = async (p: Process) => (await p.store.stats([STREAM]))[0]?.buffered;

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
