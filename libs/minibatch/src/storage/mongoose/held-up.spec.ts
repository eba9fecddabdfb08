import type { Connection } from 'mongoose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openReplicaSet } from '../../../../../test/support/mongo-server.js';
import { dataOf, keyOf, messageOf, useStore } from '../../../../../test/support/mongoose-store.js';
import { SystemClock } from '../../common/clock.js';
import { StreamHub } from '../../streams/stream-hub.js';

const range = (count: number) => Array.from({ length: count }, (_, index) => index);

describe('an append whose dedupe id an open transaction has used', () => {
  const test = useStore(() => ({ database: openReplicaSet() }));
  let hub: StreamHub;
  beforeEach(async () => {
    const log = { log() {}, warn() {}, error() {} };
    hub = new StreamHub({ store: test.store, clock: new SystemClock(), log, retry: { base: 1, max: 1, jitter: 0 } });
    for (const stream of ['s', 'other']) await hub.stream(stream).append(`first of ${stream}`);
  });
  afterEach(() => hub.close(1_000));

  async function open(connection: Connection, ids: readonly string[]) {
    const session = await connection.startSession();
    session.startTransaction();
    for (const dedupeId of ids)
      await test.store.append([messageOf('s', `in transaction: ${dedupeId}`, { dedupeId })], { session });
    return session;
  }

  function watched<R>(promise: Promise<R>) {
    const state = { settled: false };
    void promise.finally(() => (state.settled = true)).catch(() => undefined);
    return state;
  }

  it('waits for its end, and no other append does', { timeout: 60_000 }, async () => {
    const session = await open(test.connection, ['x']);
    const stream = hub.stream<unknown>('s');
    const before = range(20).map((n) => stream.append(n, { dedupeId: `before ${n}` }));
    const held = stream.append('x', { dedupeId: 'x' });
    const state = watched(held);
    const behind = range(20).map((n) => stream.append(20 + n, { dedupeId: `behind ${n}` }));
    const again = stream.append('again', { dedupeId: 'before 3' });
    const plain = hub.stream('other').append('plain');
    const ids = await Promise.all([...before, ...behind, plain]);
    expect(ids.every(({ id }) => id !== undefined)).toBe(true);
    expect(await again).toEqual({ duplicate: true });
    await hub.stream('s').append('later');
    await hub.stream('other').append('later');
    expect(state.settled).toBe(false);

    await session.commitTransaction();
    expect(await held).toEqual({ duplicate: true });
    const stored = await dataOf(test.store, keyOf('s'));
    expect(stored).toHaveLength(new Set(stored).size);
    expect(new Set(stored)).toEqual(new Set(['first of s', 'in transaction: x', ...range(40), 'later']));
    expect(await dataOf(test.store, keyOf('other'))).toEqual(['first of other', 'plain', 'later']);
    await session.endSession();
  });

  it('is stored if the transaction is aborted', { timeout: 60_000 }, async () => {
    const session = await open(test.connection, ['x', 'y']);
    const stream = hub.stream<unknown>('s');
    const held = ['x', 'y'].map((dedupeId) => stream.append(dedupeId, { dedupeId }));
    await stream.append('z', { dedupeId: 'z' });
    await session.abortTransaction();
    for (const { id } of await Promise.all(held)) expect(id).toEqual(expect.any(String));
    expect((await dataOf(test.store, keyOf('s'))).toSorted()).toEqual(['first of s', 'x', 'y', 'z']);
    await session.endSession();
  });

  it('is waited for by a caller of the store that takes no late outcomes', { timeout: 60_000 }, async () => {
    const session = await open(test.connection, ['x']);
    const appended = test.store.append([messageOf('s', 1, { dedupeId: 'a' }), messageOf('s', 2, { dedupeId: 'x' })]);
    const state = watched(appended);
    // By then the first message is there, and the other one is known to wait.
    while ((await dataOf(test.store, keyOf('s'))).length < 2) await new Promise((resolve) => setImmediate(resolve));
    expect(state.settled).toBe(false);
    await session.abortTransaction();
    expect((await appended).map(({ status }) => status)).toEqual(['stored', 'stored']);
    await session.endSession();
  });
});
