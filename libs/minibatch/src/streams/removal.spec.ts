import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { Clock } from '../common/clock.js';
import { thisProcess } from '../common/process-identity.js';
import { type OpenedStore, STORES } from '../storage/stores.spec.support.js';
import type { Lease, LeaseOwner } from '../storage/stream-store.interface.js';
import { StreamHub } from './stream-hub.js';

const key = (group: string) => ({ stream: 'flights', group, partition: 0 });
const ELSEWHERE: LeaseOwner = { ...thisProcess(), id: 'elsewhere', host: 'elsewhere', bootId: 'other' };
const HERE: LeaseOwner = thisProcess();
/** Another live process of this host: the one that started this one. */
const NEIGHBOUR: LeaseOwner = {
  ...thisProcess(),
  id: 'neighbour',
  pid: process.ppid,
  startTime: startOf(process.ppid),
};
const DEAD: LeaseOwner = { ...thisProcess(), id: 'dead', startTime: '1' };

/** Advances by what it is asked to wait for, so that real stores take no virtual time. */
class SkippingClock implements Clock {
  private time = 0;
  meanwhile: () => Promise<unknown> = async () => undefined;

  now(): number {
    return this.time;
  }

  monotonic(): number {
    return this.time;
  }

  schedule(ms: number, callback: () => void): () => void {
    this.time += ms;
    void this.meanwhile().then(callback);
    return () => undefined;
  }
}

describe.each(STORES)('removing from %s', (_, open) => {
  let opened: OpenedStore;
  let hub: StreamHub;
  let clock: SkippingClock;

  beforeEach(async () => {
    opened = await open();
    clock = new SkippingClock();
    const log = { log() {}, warn() {}, error() {} };
    hub = new StreamHub({ store: opened.store, clock, log, retry: { base: 1, max: 1, jitter: 0 }, leaseTime: 9_000 });
    await hub.open();
    await opened.store.registerGroup(key('a'));
    await opened.store.registerGroup(key('b'));
    await hub.stream('flights').appendMany([1, 2, 3]);
  });
  afterEach(async () => {
    await hub.close(1000);
    await opened.dispose();
  });

  async function hold(group: string, owner: LeaseOwner): Promise<Lease> {
    const [state] = await opened.store.readLeases([key(group)]);
    const lease = state && (await opened.store.acquireLease(key(group), owner, state));
    if (!lease) throw new Error('not acquired');
    return lease;
  }

  it('removes a group that nobody holds, and gives its messages free', async () => {
    const lease = await hold('a', HERE);
    await opened.store.releaseLease(lease);
    await hub.stream('flights').removeGroup('a');
    expect((await hub.describe('flights'))?.groups).toEqual(['b']);
    await expect(hub.stream('flights').removeGroup('a')).rejects.toMatchObject({ code: ErrorCode.UnknownGroup });
    await expect(hub.stream('nope').removeGroup('a')).rejects.toMatchObject({ code: ErrorCode.UnknownStream });
  });

  it.each([
    ['of this process', HERE],
    ['of another process of this host', NEIGHBOUR],
  ])('refuses at once to remove the group of a live consumer %s', async (_name, owner) => {
    await hold('a', owner);
    await expect(hub.stream('flights').removeGroup('a')).rejects.toMatchObject({
      code: ErrorCode.GroupInUse,
      details: { stream: 'flights', group: 'a', pid: owner.pid, host: owner.host },
    });
    await hub.stream('flights').removeGroup('b');
    await hub.stream('flights').removeGroup('a', { force: true });
    expect((await hub.describe('flights'))?.groups).toEqual([]);
  });

  it('refuses while a process of another host renews the lease', async () => {
    const lease = await hold('a', ELSEWHERE);
    clock.meanwhile = () => opened.store.renewLeases([lease]);
    await expect(hub.stream('flights').removeGroup('a')).rejects.toMatchObject({ code: ErrorCode.GroupInUse });
    await expect(hub.stream('flights').drop()).rejects.toMatchObject({ code: ErrorCode.GroupInUse });
    expect((await hub.describe('flights'))?.groups).toEqual(['a', 'b']);
  });

  it('waits a lease time for a process of another host, and no longer', async () => {
    await hold('a', ELSEWHERE);
    await hub.stream('flights').removeGroup('a');
    expect(clock.monotonic()).toBe(9_000);
  });

  it('does not wait for a process that has ended', async () => {
    await hold('a', DEAD);
    await hub.stream('flights').removeGroup('a');
    expect((await hub.describe('flights'))?.groups).toEqual(['b']);
  });

  it('drops a stream with all it has; the next append makes it anew', async () => {
    const stream = hub.stream('flights');
    const { id } = await stream.append(4, { dedupeId: 'd' });
    await opened.store.append([], {
      checkpoints: [{ stream: 'flights', source: 's', position: 7, from: 0, to: 0 }],
    });
    // A consumer of this very process does not stand in the way.
    const lease = await hold('a', HERE);
    const { messages } = await opened.store.fetch(key('a'), undefined, { messages: 10, bytes: 1e6 });
    const note = { window: 'w', consumer: 'c', attempts: 1, error: 'e', died: new Date(0) };
    await opened.store.bury(
      lease,
      messages.slice(0, 1).map((message) => ({ message, ...note })),
    );
    await stream.drop();
    expect(await stream.describe()).toBeUndefined();
    expect(await opened.store.readCheckpoint('flights', 's')).toBeUndefined();
    await expect(stream.drop()).rejects.toMatchObject({ code: ErrorCode.UnknownStream });
    expect((await stream.append(5, { dedupeId: 'd' })).id).not.toBe(id);
    const { groups, deadLetters, buffered } = await stream.stats();
    expect({ groups, deadLetters, buffered }).toEqual({ groups: [], deadLetters: 0, buffered: 1 });
  });

  it('drops no stream that another live process consumes, unless it is forced to', async () => {
    await hold('a', NEIGHBOUR);
    await expect(hub.stream('flights').drop()).rejects.toMatchObject({ code: ErrorCode.GroupInUse });
    await hub.stream('flights').drop({ force: true });
    expect(await hub.describe('flights')).toBeUndefined();
  });

  it('refuses other options', async () => {
    const wrong = { forced: true } as object;
    await expect(hub.stream('flights').drop(wrong)).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
    await expect(hub.stream('flights').removeGroup('a', { force: 'no' } as object)).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
    });
    await expect(hub.stream('flights').removeGroup('')).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
  });
});

function startOf(pid: number): string {
  const line = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return line.slice(line.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}
