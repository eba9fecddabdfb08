import { afterEach, describe, expect, it } from 'vitest';
import { delay } from '../common/clock.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { LeaseState, RenewalNotice, StreamStore } from '../storage/stream-store.interface.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import type { Window } from '../windows/window.js';
import { Fleet, names, ROUND } from './fleet.spec.support.js';
import { type ConsumerChoice, LEASE, type Process } from './process.spec.support.js';

/** A run of a handler that ends when it is told to. */
interface Run {
  readonly by: Process;
  readonly group: string;
  readonly value: unknown;
  readonly window: Window;
  end(): void;
}

describe('a hand-over', () => {
  let fleet: Fleet;
  const runs: Run[] = [];
  /** What a handler of the group was given, and where. */
  const handled = (group: string) => runs.filter((run) => run.group === group).map(({ value }) => value);
  const make = (consumers: number, choice: ConsumerChoice = {}) => {
    runs.length = 0;
    fleet = new Fleet(names(consumers), (group, by) => ({
      size: 1,
      handler: (window) =>
        new Promise<void>((end) => void runs.push({ by, group, value: window.data[0], window, end })),
      ...choice,
    }));
    return fleet;
  };
  afterEach(() => fleet.stopAll());

  const statusOf = (member: Process, group = 'g0') => member.engine.status().find(({ key }) => key.group === group);
  const isWith =
    (member: Process, group = 'g0') =>
    () =>
      statusOf(member, group)?.state === 'running';
  const lease = async (): Promise<LeaseState> => (await fleet.leases())[0]!;

  const slow = (member: Process) => member.logged.filter((line) => line.startsWith('Handing over'));

  /** One replica that runs the first message of its two consumers, and another one that has asked for the first of them. */
  async function asked(choice: ConsumerChoice = {}, options: Parameters<Fleet['join']>[0] = {}) {
    make(2, choice);
    const holder = await fleet.join(options);
    await fleet.append(1, 2);
    expect(await fleet.comesTo(() => runs.length === 2)).toBe(true);
    const heir = await fleet.join(options.engine ? { engine: options.engine } : {});
    expect(await fleet.comesTo(() => statusOf(holder)?.heir !== undefined)).toBe(true);
    return { holder, heir };
  }

  it('lets what runs finish, begins nothing new, and goes to the one that asked', async () => {
    const { holder, heir } = await asked();
    expect(statusOf(holder)).toMatchObject({
      state: 'running',
      activity: 'handling',
      heir: { pid: process.pid, since: expect.any(Date) },
    });
    expect(statusOf(holder, 'g1')).not.toHaveProperty('heir');
    expect(runs[0]?.window.closing.aborted).toBe(true);
    expect(runs[0]?.window.signal.aborted).toBe(false);
    runs[0]?.end();
    runs[1]?.end();
    expect(await fleet.comesTo(() => runs.length === 4, ROUND)).toBe(true);
    expect(runs.slice(2).map(({ by, group, value }) => [by === heir, group, value])).toEqual([
      [false, 'g1', 2],
      [true, 'g0', 2],
    ]);
    expect(statusOf(holder)).toMatchObject({ state: 'standby' });
    expect(statusOf(holder)).not.toHaveProperty('heir');
    expect(await lease()).not.toHaveProperty('heir');
    for (const run of runs) run.end();
    await fleet.pass(LEASE);
    expect([handled('g0'), handled('g1')]).toEqual([
      [1, 2],
      [1, 2],
    ]);
    expect(await fleet.buffered()).toBe(0);
    // It had been claimed, and not begun.
    expect([...holder.logged, ...heir.logged]).toEqual([expect.stringContaining('took over 1 open window')]);
  });

  it('is noticed by a consumer that always has something to commit', async () => {
    make(2, { handler: () => delay(fleet.clock, 1_000) });
    const holder = await fleet.join();
    await fleet.append(...Array.from({ length: 100 }, (_, n) => n));
    expect(await fleet.comesTo(() => holder.values.length > 4)).toBe(true);
    const heir = await fleet.join();
    expect(await fleet.comesTo(() => fleet.isFair)).toBe(true);
    expect(await fleet.comesTo(async () => (await fleet.buffered()) === 0, 120_000)).toBe(true);
    expect(holder.values.length + heir.values.length).toBe(200);
    expect(new Set(heir.values).size).toBe(heir.values.length);
  });

  it('carries out a flush that was asked for meanwhile', async () => {
    const { heir } = await asked({ size: 2 });
    await fleet.append(3);
    await fleet.store.updateStream('s', { flush: true });
    await fleet.pass(3 * LEASE);
    for (const run of runs) run.end();
    expect(await fleet.comesTo(() => runs.some(({ by, value }) => by === heir && value === 3), ROUND)).toBe(true);
  });

  it('does not make its heir read the stream each time it looks for the lease', async () => {
    make(2);
    await fleet.join();
    await fleet.append(1, 2);
    expect(await fleet.comesTo(() => runs.length === 2)).toBe(true);
    const calls: string[] = [];
    const around = (call: StoreCall) => {
      calls.push(call.method);
      return call.proceed();
    };
    const heir = await fleet.join({ around });
    expect(await fleet.comesTo(() => calls.includes('requestLease'))).toBe(true);
    calls.length = 0;
    await fleet.pass(LEASE / 2);
    const [looks, reads] = ['readLeases', 'listStreams'].map(
      (name) => calls.filter((method) => method === name).length,
    );
    expect(looks).toBeGreaterThan(10);
    expect(reads).toBeGreaterThan(0);
    expect(reads).toBeLessThan(6);
    expect(heir.logged).toEqual([]);
  });

  it('waits for a handler that never ends, and says what it waits for', async () => {
    const { holder, heir } = await asked();
    await fleet.pass(10_000);
    expect(slow(holder)).toEqual([
      expect.stringMatching(
        /^Handing over to process \d+ on .+ takes longer than 10000 ms \(handover\), waiting for Test\.g0: the method with window \S+ since 2.+window\.closing/,
      ),
    ]);
    await fleet.pass(20 * LEASE);
    // The other consumer was asked for instead. It does not move either, and there is no third.
    expect([isWith(heir)(), isWith(heir, 'g1')()]).toEqual([false, false]);
    expect(statusOf(holder)).not.toHaveProperty('heir');
    expect(statusOf(holder, 'g1')?.heir).toBeDefined();
    expect(runs.map(({ window }) => window.signal.aborted)).toEqual([false, false]);
    expect(slow(holder)).toHaveLength(2);
    runs[1]?.end();
    expect(await fleet.comesTo(isWith(heir, 'g1'), ROUND)).toBe(true);
    expect(handled('g1')).toEqual([1, 2]);
  });

  it('that does not come is exchanged for one of another consumer', async () => {
    runs.length = 0;
    fleet = new Fleet(names(3), (group) => ({
      size: 1,
      handler: () => (group === 'g0' ? new Promise<void>(() => undefined) : undefined),
    }));
    const holder = await fleet.join();
    await fleet.append(1);
    expect(await fleet.comesTo(() => statusOf(holder)?.activity === 'handling')).toBe(true);
    const heir = await fleet.join();
    expect(await fleet.comesTo(() => statusOf(holder)?.heir !== undefined)).toBe(true);
    expect(await fleet.comesTo(() => fleet.isFair, 2 * LEASE)).toBe(true);
    expect(fleet.shares).toEqual([2, 1]);
    expect([isWith(holder)(), isWith(heir)()]).toEqual([true, false]);
    await fleet.pass(LEASE);
    const before = await fleet.leases();
    expect(before.map(({ heir: asking }) => asking)).toEqual([undefined, undefined, undefined]);
    const fences = before.map(({ fence }) => fence);
    await fleet.pass(20 * LEASE);
    expect(await fleet.fences()).toEqual(fences);
    // A third one does not wait for it without end, either.
    await fleet.join();
    expect(await fleet.comesTo(() => fleet.shares.every((share) => share === 1), 3 * LEASE)).toBe(true);
  });

  it('takes the longer time that the application gives it before it says so', async () => {
    const { holder } = await asked({}, { engine: { handover: 60_000 } });
    await fleet.pass(59_000);
    expect(slow(holder)).toEqual([]);
    await fleet.pass(1_000);
    expect(slow(holder)).toHaveLength(1);
  });

  it('waits until a sink takes its result, and meanwhile the consumer goes on', async () => {
    let isDown = true;
    const put = async (result: unknown): Promise<void> => {
      if (isDown && result === 1) throw new Error('down');
    };
    make(2, { workers: 2, sinks: [{ name: 'sink', sink: { put } }], handler: (window) => window.data[0] });
    const holder = await fleet.join();
    await fleet.append(1);
    expect(await fleet.comesTo(() => statusOf(holder)?.activity === 'blocked')).toBe(true);
    const heir = await fleet.join();
    expect(await fleet.comesTo(() => statusOf(holder)?.heir !== undefined)).toBe(true);
    await fleet.append(2);
    expect(await fleet.comesTo(() => statusOf(holder)?.committedWindows === 1)).toBe(true);
    await fleet.pass(5 * LEASE);
    expect(isWith(holder)()).toBe(true);
    isDown = false;
    // The waits between the tries of a sink grow to a minute.
    expect(await fleet.comesTo(() => fleet.isFair, 60_000 + LEASE)).toBe(true);
    expect(isWith(heir)()).not.toBe(isWith(heir, 'g1')());
    expect(holder.values.concat(heir.values).toSorted()).toEqual([1, 1, 2, 2]);
  });

  it('happens while the stream is paused', async () => {
    make(2);
    await fleet.join();
    await fleet.append(1);
    await fleet.store.updateStream('s', { paused: true });
    await fleet.pass(LEASE);
    await fleet.join();
    for (const run of runs) run.end();
    expect(await fleet.comesTo(() => fleet.isFair)).toBe(true);
  });

  it('is over when its heir is dead: the others take it after a lease time', async () => {
    const { holder, heir } = await asked();
    fleet.kill(heir);
    runs[0]?.end();
    await fleet.pass(ROUND);
    expect(await lease()).toMatchObject({ heir: { pid: process.pid } });
    expect(await lease()).not.toHaveProperty('owner');
    expect(await fleet.comesTo(isWith(holder), LEASE + ROUND)).toBe(true);
    expect(await fleet.comesTo(() => handled('g0').length === 2)).toBe(true);
    expect(handled('g0')).toEqual([1, 2]);
  });

  it('is over when its heir stops: the others take it at once', async () => {
    const { holder, heir } = await asked();
    await fleet.stop(heir, 0);
    expect(await lease()).not.toHaveProperty('heir');
    runs[0]?.end();
    expect(await fleet.comesTo(() => isWith(holder)() && handled('g0').length === 2, ROUND)).toBe(true);
    expect(handled('g0')).toEqual([1, 2]);
    expect(statusOf(holder)).not.toHaveProperty('heir');
  });

  it('is a takeover when the holder dies before it has drained', async () => {
    const { holder, heir } = await asked();
    fleet.kill(holder);
    expect(await fleet.comesTo(() => isWith(heir)() && isWith(heir, 'g1')(), LEASE + ROUND)).toBe(true);
    expect(await fleet.comesTo(() => handled('g0').length === 2)).toBe(true);
    // What was cut off is handled again, as after any crash.
    expect(handled('g0')).toEqual([1, 1]);
    expect(await lease()).not.toHaveProperty('heir');
  });

  it('is completed by a stop of the holder', async () => {
    const { holder, heir } = await asked();
    const stopping = fleet.stop(holder, 5_000);
    for (const run of runs) run.end();
    await stopping;
    expect(await fleet.comesTo(() => isWith(heir)() && isWith(heir, 'g1')(), ROUND)).toBe(true);
    expect(await fleet.comesTo(() => handled('g0').length === 2)).toBe(true);
    expect([handled('g0'), handled('g1')]).toEqual([
      [1, 2],
      [1, 2],
    ]);
  });

  it('loses nothing if the release does not reach the store: the lease expires', async () => {
    const around = async (call: StoreCall): Promise<unknown> => {
      if (call.method === 'releaseLease') throw new MinibatchError(ErrorCode.StoreUnavailable, 'planted');
      return call.proceed();
    };
    const { holder, heir } = await asked({}, { around });
    runs[0]?.end();
    expect(await fleet.comesTo(() => handled('g0').length === 2, LEASE + ROUND + 1_000)).toBe(true);
    expect([isWith(holder)(), isWith(heir)()].toSorted()).toEqual([false, true]);
    expect(handled('g0')).toEqual([1, 2]);
    expect(holder.logged[0]).toMatch(/^Test\.g0: could not hand its lease over; it expires on its own: planted/);
  });

  it('is asked for again when the answer to the request was lost', async () => {
    let fails = 1;
    make(2);
    await fleet.join();
    const heir = await fleet.join({
      around: async (call) => {
        const result = await call.proceed();
        if (call.method === 'requestLease' && fails-- > 0)
          throw new MinibatchError(ErrorCode.StoreUnavailable, 'planted');
        return result;
      },
    });
    expect(await fleet.comesTo(() => fleet.isFair)).toBe(true);
    expect(fails).toBeLessThanOrEqual(0);
    expect(heir.logged).toEqual([expect.stringContaining('planted')]);
  });
});

describe('replicas that are not alike', () => {
  let fleet: Fleet;
  afterEach(() => fleet.stopAll());

  /** As a version that knows no heirs sees the database. */
  function older(store: StreamStore): StreamStore {
    const withoutHeir = ({ heir: _, ...rest }: LeaseState): LeaseState => rest;
    return new Proxy(store, {
      get(target, name) {
        if (name === 'requestLease') return undefined;
        if (name === 'readLeases')
          return async (...args: Parameters<StreamStore['readLeases']>) =>
            (await target.readLeases(...args)).map(withoutHeir);
        if (name === 'renewLeases')
          return async (...args: Parameters<StreamStore['renewLeases']>) =>
            (await target.renewLeases(...args)).filter(({ heir }: RenewalNotice) => !heir);
        const value: unknown = Reflect.get(target, name);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }
  const olderMember = () => fleet.join({ store: older(new MemoryStreamStore(fleet.database)) });

  it('leave an older version what it has until it ends', async () => {
    fleet = new Fleet(names(4));
    const old = await olderMember();
    await fleet.pass(ROUND);
    const [, second] = [await fleet.join(), await fleet.join()];
    await fleet.pass(4 * LEASE);
    expect(fleet.shares).toEqual([4, 0, 0]);
    const requested = (await fleet.leases()).filter(({ heir }) => heir);
    expect(requested).not.toEqual([]);
    await fleet.stop(old);
    expect(await fleet.comesTo(() => fleet.isFair)).toBe(true);
    expect(fleet.shares).toEqual([2, 2]);
    expect(second?.logged).toEqual([]);
  });

  it('keep what they have where an older version comes', async () => {
    fleet = new Fleet(names(4));
    await fleet.joinMany(2);
    expect(await fleet.comesTo(() => fleet.isFair)).toBe(true);
    await olderMember();
    const before = await fleet.fences();
    await fleet.pass(4 * LEASE);
    expect(fleet.shares).toEqual([2, 2, 0]);
    expect(await fleet.fences()).toEqual(before);
  });

  it('count only those that run the same consumers', async () => {
    fleet = new Fleet(names(6));
    await fleet.join();
    await fleet.join();
    await fleet.join({}, []);
    const few = await fleet.join({}, ['g5']);
    await fleet.pass(2 * LEASE);
    const before = await fleet.fences();
    expect(fleet.shares).toEqual([3, 3, 0, 0]);
    await fleet.pass(20 * ROUND);
    expect(await fleet.fences()).toEqual(before);
    expect(few.engine.status()).toHaveLength(1);
  });

  it('take no more than they are told to, as long as others take it', async () => {
    fleet = new Fleet(names(6));
    const small = await fleet.join({ engine: { maxLeases: 2 } });
    await fleet.pass(ROUND);
    const large = await fleet.join();
    await fleet.pass(2 * LEASE);
    expect(fleet.shares).toEqual([2, 4]);
    expect([...small.logged, ...large.logged]).toEqual([]);
    fleet.kill(large);
    await fleet.pass(1.5 * LEASE);
    expect(fleet.shares).toEqual([2]);
    expect(await fleet.comesTo(() => fleet.shares[0] === 6, LEASE)).toBe(true);
    expect(small.logged).toEqual([
      'This process holds 6 leases, more than maxLeases (2), because no other process takes them: start more processes, or raise maxLeases',
    ]);
    await fleet.join();
    expect(await fleet.comesTo(() => fleet.isFair)).toBe(true);
  });
});
