import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { SourceTarget } from '../sources/source.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { FakeStore } from './fake-store.spec.support.js';
import { StreamHub } from './stream-hub.js';

function setUp() {
  const store = new FakeStore();
  const log = { log() {}, warn() {}, error() {} };
  const retry = { base: 1000, max: 60_000, jitter: 0 };
  const hub = new StreamHub({ store: store.port, clock: new VirtualClock(1000), log, retry });
  // Callers in JavaScript may give anything.
  const stream = hub.stream<unknown>('s') as unknown as Record<
    'append' | 'appendMany',
    (data: unknown, options?: unknown) => Promise<unknown>
  >;
  return { store, hub, stream };
}

/** Every trap of it throws. */
function hostile(target: object = {}): object {
  const fails = () => {
    throw new Error('trapped');
  };
  return new Proxy(target, { get: fails, ownKeys: fails, getPrototypeOf: fails, has: fails });
}

function revoked(target: object = {}): object {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

const refused = { code: ErrorCode.InvalidOptions, stored: 'no' };
const unstorable = { code: ErrorCode.NotStorable, stored: 'no' };

describe('the options of append', () => {
  it.each([
    ['a Map', () => new Map([['dedupeId', 'a']])],
    ['a promise', async () => ({ dedupeId: 'a' })],
    ['a Date', () => new Date(0)],
    ['a boxed number', () => Object(5) as object],
  ])('are refused if they are %s: none of them would be seen', async (_what, make) => {
    const { store, stream } = setUp();
    const given = make();
    await expect(stream.append(1, given)).rejects.toMatchObject(refused);
    await expect(stream.appendMany([1], given)).rejects.toMatchObject(refused);
    // As that of an async function.
    await expect(stream.appendMany([1], { each: make })).rejects.toMatchObject(refused);
    expect(store.written).toEqual([]);
  });

  it('are refused if there is no such option', async () => {
    const { store, stream } = setUp();
    await expect(stream.append(1, { dedupeID: 'a' })).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining(
        "append to 's': unknown option 'dedupeID'; did you mean 'dedupeId'? Allowed: key, headers, dedupeId, session",
      ),
      details: { option: 'dedupeID' },
    });
    await expect(stream.append(1, { each: () => ({}) })).rejects.toMatchObject(refused);
    await expect(stream.append(1, { position: 1 })).rejects.toMatchObject(refused);
    await expect(stream.appendMany([1], { dedupeId: 'a' })).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining("'dedupeId' belongs to a single message: each: (data) => ({ dedupeId })"),
    });
    await expect(stream.appendMany([1], { each: 'key' })).rejects.toMatchObject(refused);
    await expect(
      stream.appendMany([1, 2], { each: (n: number) => (n === 1 ? {} : { dedupeID: n }) }),
    ).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining("appendMany to 's', message 1: unknown option 'dedupeID'"),
    });
    expect(store.writes).toEqual([]);
  });

  it('are refused if they are no object, or can not be read', async () => {
    const { store, stream } = setUp();
    for (const options of [null, 'a', 5, [], hostile(), revoked()]) {
      await expect(stream.append(1, options)).rejects.toMatchObject(refused);
      await expect(stream.appendMany([1], options)).rejects.toMatchObject(refused);
    }
    for (const options of ['a', 5, [], hostile(), revoked()]) {
      await expect(stream.appendMany([1], { each: () => options })).rejects.toMatchObject(refused);
    }
    expect(store.writes).toEqual([]);
  });

  it('are refused in a source, too', async () => {
    const { store, hub } = setUp();
    const target = await new Promise<SourceTarget<unknown>>((resolve) => {
      hub.stream('s').attach({ stream: async (given) => resolve(given) });
    });
    await expect(target.append(1, { dedupeID: 'a' } as object)).rejects.toMatchObject(refused);
    await expect(target.append(1, { session: {} } as object)).rejects.toMatchObject(refused);
    await expect(target.appendMany([1], { each: () => ({ position: 1 }) as object })).rejects.toMatchObject(refused);
    expect(store.writes).toEqual([]);
    await target.append(1, { dedupeId: 'a', position: 7 });
    expect(store.checkpoints.get('source')).toBe(7);
  });

  it('may be inherited or undefined', async () => {
    const { store, stream } = setUp();
    class Options {
      get dedupeId() {
        return 'a';
      }
    }
    await stream.append(1, new Options());
    await stream.append(2, { dedupeId: undefined, key: 'k', session: null });
    await stream.appendMany([3, 4], { each: () => undefined });
    expect(store.writes.flatMap(({ messages }) => messages)).toMatchObject([
      { data: 1, dedupeId: 'a' },
      { data: 2, key: 'k' },
      { data: 3 },
      { data: 4 },
    ]);
  });
});

describe('what is appended', () => {
  it('is refused with a code if it can not be read', async () => {
    const { store, stream } = setUp();
    for (const data of [hostile(), revoked(), revoked([]), { inner: revoked([]) }, hostile(() => 1)]) {
      await expect(stream.append(data)).rejects.toMatchObject(unstorable);
    }
    for (const label of [hostile(), revoked(), revoked([])]) {
      await expect(stream.append(1, { key: label })).rejects.toMatchObject(unstorable);
      await expect(stream.append(1, { headers: label })).rejects.toMatchObject(unstorable);
      await expect(stream.append(1, { headers: { a: label } })).rejects.toMatchObject(unstorable);
    }
    expect(store.writes).toEqual([]);
  });

  it('is refused with a code if it is no list of messages', async () => {
    const { store, stream } = setUp();
    for (const list of [
      null,
      undefined,
      'ab',
      new Set([1]),
      { length: 1, 0: 1 },
      hostile([]),
      revoked([]),
      revoked(),
    ]) {
      await expect(stream.appendMany(list)).rejects.toMatchObject(refused);
    }
    const holes: unknown[] = [];
    holes.length = 3;
    await expect(stream.appendMany(holes)).rejects.toMatchObject(unstorable);
    expect(store.writes).toEqual([]);
  });
});
