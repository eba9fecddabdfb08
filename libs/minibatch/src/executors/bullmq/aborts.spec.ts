import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../testing/virtual-clock.js';
import { abortChannel, type AbortOrder, RunningJobs } from './aborts.js';
import type { RedisClient } from './packages.js';

const KEEP = 1_000;

function setUp() {
  const client = Object.assign(new EventEmitter(), { options: {} });
  const clock = new VirtualClock();
  const jobs = new RunningJobs(client as unknown as RedisClient, clock, KEEP);
  const send = (order: unknown) => client.emit('message', 'channel', JSON.stringify(order));
  const order = (change: Partial<AbortOrder> = {}) => send({ job: 'a', reason: 'too late', at: 10, ...change });
  /** Why it is aborted when it begins, or by what is sent while it runs. */
  const reasonOf = (timestamp: number, meanwhile: () => unknown = () => undefined) =>
    jobs.run({ id: 'a', timestamp }, async (signal) => {
      meanwhile();
      return (signal.reason as Error | undefined)?.message;
    });
  return { clock, jobs, send, order, reasonOf };
}

describe('RunningJobs', () => {
  it('aborts a job that runs', async () => {
    const { jobs, order, reasonOf } = setUp();
    expect(await reasonOf(5, () => order())).toBe('too late');
    expect(await reasonOf(5, () => order({ job: 'b' }))).toBeUndefined();
    expect(jobs.size).toBe(0);
  });

  it('aborts a job whose order came before it', async () => {
    const { order, reasonOf } = setUp();
    order();
    expect(await reasonOf(10)).toBe('too late');
    expect(await reasonOf(10)).toBeUndefined();
  });

  it('runs a job that was added again after the order', async () => {
    const { order, reasonOf } = setUp();
    order();
    expect(await reasonOf(11)).toBeUndefined();
  });

  it('forgets orders whose jobs have gone elsewhere', async () => {
    const { clock, order, reasonOf } = setUp();
    order();
    await clock.advance(KEEP + 1);
    order({ job: 'b' });
    expect(await reasonOf(10)).toBeUndefined();
  });

  it.each([['no JSON'], [{ job: 'a' }], [{ job: 1, reason: 'x', at: 10 }], [null]])('ignores %j', async (message) => {
    const { send, reasonOf } = setUp();
    expect(await reasonOf(5, () => send(message))).toBeUndefined();
  });
});

describe('abortChannel', () => {
  it('is of one database', () => {
    const of = (db?: number | string) => abortChannel('bull:q:aborts', { options: { db } } as unknown as RedisClient);
    expect([of(), of(0), of(2), of('2')]).toEqual([
      'bull:q:aborts@0',
      'bull:q:aborts@0',
      'bull:q:aborts@2',
      'bull:q:aborts@2',
    ]);
  });
});
