import { beforeEach, describe, expect, it } from 'vitest';
import { Activity } from '../common/activity.js';
import { leaseLost } from '../errors/store-faults.js';
import type { Lease } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { LeaseTerm, LeaseTermOver } from './lease-term.js';

const KEY = { stream: 's', group: 'default', partition: 0 };
const LEASE: Lease = { key: KEY, owner: { id: 'a', host: '', bootId: '', pid: 1, startTime: '' }, fence: 3 };

describe('a lease term', () => {
  let clock: VirtualClock;
  let term: LeaseTerm;
  let isFresh: boolean;
  let ensured: () => Promise<void>;
  let dropped: Lease[];
  let failures: unknown[];
  let logged: string[];

  beforeEach(() => {
    clock = new VirtualClock();
    isFresh = false;
    ensured = () => Promise.resolve();
    [dropped, failures, logged] = [[], [], []];
    const log = (line: string) => void logged.push(line);
    const keeper = {
      isFresh: (lease: Lease) => lease === LEASE && isFresh,
      ensure: () => ensured(),
      drop: (lease: Lease) => void dropped.push(lease),
    };
    const parts = { clock, keeper, activity: new Activity(), log: { log, warn: log, error: log } };
    const counters = { failed: (_at: number, error: unknown) => void failures.push(error) };
    const definition = { key: KEY, label: 'Test.default', workers: 2 };
    type Given = ConstructorParameters<typeof LeaseTerm>;
    term = new LeaseTerm(
      definition as unknown as Given[0],
      LEASE,
      true,
      counters as unknown as Given[3],
      parts as unknown as Given[4],
      {} as Given[5],
      {} as Given[6],
      {} as Given[7],
    );
  });

  /** Fails so often, then resolves. */
  function failing(times: number, also: () => void = () => undefined) {
    let calls = 0;
    return {
      call: () => {
        calls += 1;
        also();
        return calls > times ? Promise.resolve(calls) : Promise.reject(new Error('away'));
      },
      get calls() {
        return calls;
      },
    };
  }

  const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

  it('is told what the store answers, and logs nothing of it', async () => {
    expect(await term.persist('claim', () => Promise.resolve(7))).toBe(7);
    expect([logged, failures, term.unavailable]).toEqual([[], [], false]);
  });

  it('asks the store again until it answers, after longer and longer waits, and says both once', async () => {
    const store = failing(3);
    const answer = term.persist('claim', store.call);
    await turn();
    expect([store.calls, term.unavailable]).toEqual([1, true]);
    // Waits of 100, 200 and 400 ms, less up to 30 %.
    for (const [after, calls] of [
      [69, 1],
      [31, 2],
      [109, 2],
      [91, 3],
      [189, 3],
    ] as const) {
      await clock.advance(after, turn);
      expect(store.calls).toBe(calls);
    }
    await clock.advance(211, turn);
    expect(await answer).toBe(4);
    expect(term.unavailable).toBe(false);
    expect(failures).toHaveLength(3);
    expect(logged).toEqual(["Test.default: can't claim, retrying: away", 'Test.default: the store answers again']);
  });

  it('says once that the store answers again if it answers several calls', async () => {
    const [one, two] = [failing(1), failing(1)];
    const answers = [term.persist('claim', one.call), term.persist('fetch', two.call)];
    await turn();
    await clock.advance(200, turn);
    await Promise.all(answers);
    expect(logged.filter((line) => line.endsWith('answers again'))).toHaveLength(1);
    // A call that did not fail knows as well that it is there.
    term.unavailable = true;
    await term.persist('fetch', () => Promise.resolve());
    expect(term.unavailable).toBe(false);
    expect(logged.filter((line) => line.endsWith('answers again'))).toHaveLength(1);
  });

  it('ends with its lease', async () => {
    const lost = leaseLost(KEY);
    await expect(term.persist('commit', () => Promise.reject(lost))).rejects.toBe(lost);
    expect([term.isOver, term.isClosing, term.over.aborted, term.closing.aborted]).toEqual([true, true, true, true]);
    expect(dropped).toEqual([LEASE]);
    expect([failures, logged]).toEqual([[], []]);
  });

  it('asks the store for nothing once it is over', async () => {
    term.end();
    const store = failing(0);
    await expect(term.persist('commit', store.call)).rejects.toBeInstanceOf(LeaseTermOver);
    expect(store.calls).toBe(0);
  });

  it('takes no failure for one that comes after its end', async () => {
    await expect(term.persist('commit', failing(1, () => term.end()).call)).rejects.toBeInstanceOf(LeaseTermOver);
    expect([failures, logged, term.unavailable]).toEqual([[], [], false]);
  });

  it('waits no longer for the store once it is over', async () => {
    const store = failing(2);
    const answer = term.persist('commit', store.call);
    await turn();
    term.end();
    await expect(answer).rejects.toBeInstanceOf(LeaseTermOver);
    expect(store.calls).toBe(1);
  });

  it('closes before it ends', () => {
    expect([term.isClosing, term.closing.aborted]).toEqual([false, false]);
    term.close();
    expect([term.isClosing, term.closing.aborted, term.isOver, term.over.aborted]).toEqual([true, true, false, false]);
  });

  it('is sure of a lease that is fresh without asking the store', async () => {
    isFresh = true;
    ensured = () => Promise.reject(new Error('asked'));
    expect(await term.isSure()).toBe(true);
    expect(failures).toEqual([]);
    term.end();
    expect(await term.isSure()).toBe(false);
  });

  it('is sure of another lease when the store has renewed it', async () => {
    const store = failing(1);
    ensured = async () => void (await store.call());
    const sure = term.isSure();
    await turn();
    expect(logged).toEqual(["Test.default: can't renew the lease, retrying: away"]);
    await clock.advance(100, turn);
    expect(await sure).toBe(true);
    expect(store.calls).toBe(2);
  });

  it.each([
    { what: 'it is lost', ends: () => Promise.reject(leaseLost(KEY)) },
    {
      what: 'the term ends meanwhile',
      ends: () => {
        term.end();
        return Promise.reject(new Error('closed'));
      },
    },
  ])('is not sure of a lease if $what', async ({ ends }) => {
    ensured = ends;
    expect(await term.isSure()).toBe(false);
    expect(term.isOver).toBe(true);
  });
});
