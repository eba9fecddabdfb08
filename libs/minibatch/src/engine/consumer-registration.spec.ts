import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { ConsumerState } from './engine.interface.js';
import { Process, STREAM } from './process.spec.support.js';

/** No wait between two tries is longer; milliseconds. */
const LONGEST = 5_000;
const KEY = { stream: STREAM, group: 'default', partition: 0 };

const away = () => new MinibatchError(ErrorCode.StoreUnavailable, 'the store is away');
const denied = () => new MinibatchError(ErrorCode.StoreDenied, 'no right to write');
const refused = () => new MinibatchError(ErrorCode.StoreRefused, 'there is no such database');
const wrong = () => new MinibatchError(ErrorCode.InvalidOptions, 'a group of another kind');

describe('a consumer whose group is to be registered', () => {
  let database: MemoryDatabase;
  let p: Process;
  /** Makes what calls of `failing` reject with; undefined if the store answers. */
  let fault: (() => Error) | undefined;
  let failing: StoreCall['method'];
  /** Times of the tries. */
  let tries: number[];
  /** Called with each call of the store, before it is let through. */
  let before: ((call: StoreCall) => unknown) | undefined;

  beforeEach(() => {
    database = new MemoryDatabase();
    [fault, failing, tries, before] = [undefined, 'open', [], undefined];
    p = new Process(database, {
      around: async (call) => {
        if (call.method === 'open') tries.push(p.clock.monotonic());
        await before?.(call);
        if (fault && call.method === failing) throw fault();
        return call.proceed();
      },
    });
    p.consumer({ size: 1 });
  });
  afterEach(async () => {
    fault = undefined;
    const stopping = p.engine.stop(0);
    await p.advance(10_000);
    await stopping;
  });

  /** Lets calls of a method wait. */
  function hold(method: StoreCall['method']): { readonly begun: Promise<void>; end(): void } {
    let [begin, end] = [() => {}, () => {}];
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const ended = new Promise<void>((resolve) => (end = resolve));
    before = async (call) => {
      if (call.method !== method) return;
      begin();
      await ended;
    };
    return { begun, end };
  }

  const status = () => p.engine.status()[0];
  const warnings = () => p.logged.filter((line) => line.includes("can't register its group"));
  const groups = async () => (await new MemoryStreamStore(database).stats([STREAM]))[0]?.consumers.length;

  it.each(['open', 'ensureStream', 'registerGroup'] as const)(
    'is tried again, ever more seldom, until the store answers: %s',
    async (method) => {
      failing = method;
      fault = away;
      await p.engine.start();
      expect(status()).toMatchObject({
        state: ConsumerState.Standby,
        activity: 'unavailable',
        lastError: { code: ErrorCode.StoreUnavailable, message: expect.stringContaining('the store is away') },
      });
      await p.advance(60_000);
      const waits = tries.slice(1).map((at, index) => at - (tries[index] ?? 0));
      // With a jitter of 30 %, rounded up by the timer.
      const full = waits.map((_, index) => Math.min(LONGEST, 250 * 2 ** index));
      for (const [index, wait] of waits.entries()) {
        expect(wait).toBeGreaterThanOrEqual((full[index] ?? 0) * 0.7);
        expect(wait).toBeLessThanOrEqual(full[index] ?? 0);
      }
      expect(tries.length).toBeGreaterThan(60_000 / LONGEST);
      expect(warnings()).toHaveLength(tries.length);
      expect(warnings()[0]).toBe(`Test.default: can't register its group, retrying: ${away().message}`);

      fault = undefined;
      const failed = tries.length;
      await p.advance(LONGEST);
      expect(tries).toHaveLength(failed + 1);
      expect(status()).toMatchObject({ state: ConsumerState.Running, activity: 'waiting' });
      await p.append('a');
      expect(p.values).toEqual(['a']);
      // It is registered once and for all.
      await p.advance(60_000);
      expect(tries).toHaveLength(failed + 1);
    },
  );

  it('is registered by the first try if the store answers', async () => {
    await p.engine.start();
    await p.advance(60_000);
    expect(tries).toEqual([0]);
    expect(warnings()).toEqual([]);
    expect(status()).toMatchObject({ state: ConsumerState.Running });
    expect(status()?.lastError).toBeUndefined();
  });

  it.each([
    ['a right that is missing', denied],
    ['a database that is missing', refused],
    ['an error that is none of ours', () => new Error('socket hang up')],
  ])('is tried again after %s, too', async (_, error) => {
    fault = error;
    await p.engine.start();
    expect(status()).toMatchObject({ state: ConsumerState.Standby, activity: 'unavailable' });
    expect(status()?.lastError?.message).toContain(error().message);
    fault = undefined;
    await p.advance(LONGEST);
    expect(tries).toHaveLength(2);
    expect(status()?.state).toBe(ConsumerState.Running);
  });

  it('fails the start if the first try meets an error that does not pass', async () => {
    failing = 'registerGroup';
    fault = wrong;
    await expect(p.engine.start()).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
    await p.advance(60_000);
    expect(tries).toEqual([0]);
    expect(warnings()).toEqual([]);
  });

  it('is logged once, and not tried again, if a later try meets an error that does not pass', async () => {
    fault = away;
    await p.engine.start();
    failing = 'registerGroup';
    fault = wrong;
    await p.advance(60_000);
    expect(tries).toHaveLength(2);
    expect(warnings()).toHaveLength(1);
    expect(p.logged.filter((line) => line.includes(wrong().message))).toEqual([`Test.default: ${wrong().message}`]);
    expect(status()).toMatchObject({
      state: ConsumerState.Standby,
      activity: 'unavailable',
      lastError: { code: ErrorCode.InvalidOptions, message: wrong().message },
    });
  });

  it('is logged once, and seen in its status, if the start was through before the first try failed', async () => {
    failing = 'registerGroup';
    fault = wrong;
    const hang = hold('registerGroup');
    const starting = p.engine.start();
    // A start waits no longer for the store.
    await p.clock.advance(60_000);
    await starting;
    expect(p.logged).toEqual([]);
    hang.end();
    await p.advance(60_000);
    expect(tries).toEqual([0]);
    expect(p.logged).toEqual([`Test.default: ${wrong().message}`]);
    expect(status()).toMatchObject({ activity: 'unavailable', lastError: { code: ErrorCode.InvalidOptions } });
  });

  it('lets the other groups of its stream wait, until it is registered or given up', async () => {
    const values: unknown[] = [];
    const handler = ({ data }: { readonly data: readonly unknown[] }) => void values.push(...data);
    p.consumer({ size: 1, group: 'other', handler });
    const isDefault = (args: readonly unknown[]) => (args[0] as typeof KEY).group === 'default';
    let problem: Error | undefined = away();
    before = ({ method, args }) => {
      if (method === 'registerGroup' && isDefault(args) && problem) throw problem;
    };
    await p.engine.start();
    await p.append('a');
    await p.advance(60_000);
    expect(values).toEqual([]);
    expect(warnings()[0]).toContain(`(other consumers of '${STREAM}' wait for it)`);

    problem = wrong();
    await p.advance(LONGEST);
    expect(values).toEqual(['a']);
    expect(p.logged).toContain(`Test.default: ${wrong().message}`);
  });

  it('does not hold up the other groups of its stream once it is removed', async () => {
    const values: unknown[] = [];
    const handler = ({ data }: { readonly data: readonly unknown[] }) => void values.push(...data);
    p.consumer({ size: 1, group: 'other', handler });
    before = ({ method, args }) => {
      if (method === 'registerGroup' && (args[0] as typeof KEY).group === 'default') throw away();
    };
    await p.engine.start();
    await p.append('a');
    const removed = p.engine.remove(KEY, 0);
    await p.advance(LONGEST);
    await removed;
    expect(values).toEqual(['a']);
  });

  it('shares a round of leases with those that come in the same turn of the event loop', async () => {
    let rounds = 0;
    before = ({ method }) => {
      if (method === 'readLeases') rounds += 1;
    };
    await p.engine.start();
    await p.advance(0);
    const before100 = rounds;
    for (let n = 0; n < 100; n += 1) {
      p.engine.add({ ...p.definition({ size: 1 }), key: { ...KEY, stream: `${STREAM}.${n}` } });
      // As one that is bound takes.
      for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
    }
    await p.advance(0);
    expect(p.engine.status().every(({ state }) => state === ConsumerState.Running)).toBe(true);
    expect(rounds - before100).toBeLessThan(5);
  });

  it('is not tried again once the engine stops, and nobody is told of what failed meanwhile', async () => {
    fault = away;
    await p.engine.start();
    const told = p.logged.length;
    await p.engine.stop(0);
    fault = undefined;
    await p.advance(60_000);
    expect(tries).toEqual([0]);
    expect(await groups()).toBeUndefined();
    expect(p.logged.slice(told)).toEqual([]);
  });

  it('is not tried again once it is removed', async () => {
    fault = away;
    await p.engine.start();
    const removed = p.engine.remove(KEY, 0);
    await p.advance(0);
    await removed;
    fault = undefined;
    await p.advance(60_000);
    expect(tries).toEqual([0]);
    expect(await groups()).toBeUndefined();
  });

  it.each(['open', 'ensureStream', 'registerGroup'] as const)(
    'competes for no lease if it is removed while it is being registered: %s',
    async (method) => {
      const hang = hold(method);
      const starting = p.engine.start();
      await hang.begun;
      const removed = p.engine.remove(KEY, 0);
      const asked: string[] = [];
      hang.end();
      before = ({ method: next }) => asked.push(next);
      await starting;
      await removed;
      await p.advance(60_000);
      expect(asked.filter((each) => each === 'acquireLease')).toEqual([]);

      // So another process gets it at once.
      const other = await new Process(database, { clock: p.clock }).consumer({ size: 1 }).start();
      expect(other.engine.status()[0]?.state).toBe(ConsumerState.Running);
      await other.engine.stop(0);
    },
  );

  it.each(['open', 'registerGroup'] as const)('goes no further if the engine stops meanwhile: %s', async (method) => {
    const hang = hold(method);
    const starting = p.engine.start();
    await hang.begun;
    await p.engine.stop(0);
    const asked: string[] = [];
    hang.end();
    before = ({ method: next }) => asked.push(next);
    await starting;
    await p.advance(60_000);
    expect(asked).toEqual([]);
    expect(p.logged).toEqual([]);
  });

  it('says nothing of a try that fails because the engine has stopped', async () => {
    const hang = hold('open');
    const starting = p.engine.start();
    await hang.begun;
    await p.engine.stop(0);
    fault = away;
    hang.end();
    await starting;
    await p.advance(60_000);
    expect(tries).toEqual([0]);
    expect(p.logged).toEqual([]);
    expect(status()?.lastError).toBeUndefined();
  });
});
