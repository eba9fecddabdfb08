import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import type { StoreCall } from '../testing/wrapped-store.js';
import { ConsumerState } from './engine.interface.js';
import { LEASE, Process, stop, STREAM } from './process.spec.support.js';

type Method = StoreCall['method'];

const DENIED = { code: ErrorCode.StoreDenied, message: expect.stringContaining('no right to') as unknown };
/** As long as the engine waits between two of the same calls, at most. */
const LONGEST = 2 * LEASE;

describe('a right that is taken away while a consumer runs', () => {
  let database: MemoryDatabase;
  let denied: ReadonlySet<Method>;
  let p: Process;

  beforeEach(async () => {
    database = new MemoryDatabase();
    denied = new Set();
    p = process();
    await p.start();
  });
  afterEach(async () => {
    denied = new Set();
    await stop(p);
  });

  function process(): Process {
    const around = (call: StoreCall) => {
      if (!denied.has(call.method)) return call.proceed();
      return Promise.reject(new MinibatchError(ErrorCode.StoreDenied, `no right to ${call.method}`));
    };
    return new Process(database, { around }).consumer({ size: 1 });
  }

  const status = (of = p) => of.engine.status()[0];

  it.each<Method>(['renewLeases', 'listStreams', 'poll'])(
    'is in the status of an idle consumer: %s',
    async (method) => {
      expect(status()).toMatchObject({ state: ConsumerState.Running, activity: 'waiting' });
      denied = new Set([method]);
      await p.advance(LONGEST);
      expect(status()).toMatchObject({ state: ConsumerState.Running, activity: 'unavailable', lastError: DENIED });
      denied = new Set();
      await p.advance(LONGEST);
      expect(status()).toMatchObject({ state: ConsumerState.Running, activity: 'waiting' });
      await p.append(1);
      expect(p.values).toEqual([1]);
    },
  );

  it.each<Method>(['fetch', 'claim', 'commit', 'settle'])('is in the status of a busy consumer: %s', async (method) => {
    denied = new Set([method]);
    await p.put(1);
    await p.advance(LONGEST);
    expect(status()).toMatchObject({ state: ConsumerState.Running, activity: 'unavailable', lastError: DENIED });
    denied = new Set();
    await p.advance(LONGEST);
    expect(status()).toMatchObject({ state: ConsumerState.Running, activity: 'waiting', committedMessages: 1 });
    expect(p.values).toEqual([1]);
  });

  it.each<Method>(['readLeases', 'acquireLease'])('is in the status of a consumer in standby: %s', async (method) => {
    const other = process();
    await other.start();
    expect(status(other)).toMatchObject({ state: ConsumerState.Standby });
    expect(status(other)).not.toHaveProperty('activity');
    denied = new Set([method]);
    // Its lease can be acquired, and acquiring it is denied.
    p.kill();
    await other.advance(LONGEST);
    expect(status(other)).toMatchObject({ state: ConsumerState.Standby, activity: 'unavailable', lastError: DENIED });
    denied = new Set();
    await other.advance(LONGEST);
    expect(status(other)).toMatchObject({ state: ConsumerState.Running, activity: 'waiting' });
    await stop(other);
  });

  it('is in the status of a consumer that takes over', async () => {
    const other = process();
    denied = new Set<Method>(['recover']);
    p.kill();
    await other.start();
    await other.advance(LONGEST);
    expect(status(other)).toMatchObject({
      state: ConsumerState.Recovering,
      activity: 'unavailable',
      lastError: DENIED,
    });
    denied = new Set();
    await other.advance(LONGEST);
    expect(status(other)).toMatchObject({ state: ConsumerState.Running, activity: 'waiting' });
    await stop(other);
  });

  it('is in the status of a consumer whose stream is swept, and does not hold it up', async () => {
    p.engine.retain(STREAM, { kept: 60_000 });
    denied = new Set<Method>(['sweep']);
    await p.advance(3_600_000);
    expect(status()).toMatchObject({ state: ConsumerState.Running, activity: 'waiting', lastError: DENIED });
    await p.append(1);
    expect(p.values).toEqual([1]);
  });
});
