import { beforeEach, describe, expect, it } from 'vitest';
import { Activity } from '../common/activity.js';
import { leaseLost } from '../errors/store-faults.js';
import type { ConsumerKey, Lease, LeaseOwner } from '../storage/stream-store.interface.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { CountWindow } from '../windows/count.window.js';
import { type ConsumerRecord, ConsumerRecords } from './consumer-records.js';
import type { ConsumerDefinition } from './engine.interface.js';
import { LeaseTerms } from './lease-terms.js';

const key = (group: string): ConsumerKey => ({ stream: 's', group, partition: 0 });
const owner: LeaseOwner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };
const leaseOf = (group: string): Lease => ({ key: key(group), owner, fence: 1 });

describe('lease terms', () => {
  let records: ConsumerRecords;
  let stopping: AbortController;
  let terms: LeaseTerms;
  let record: ConsumerRecord;
  let logged: string[];
  let registered: ConsumerRecord[];
  let dropped: Lease[];
  /** Times that another set of consumers was active, terms began, a round was hurried. */
  let calls: { changed: number; began: number; hurried: number };
  /** What reading the stream does, with which each term begins. */
  let refresh: () => Promise<void>;

  beforeEach(() => {
    const clock = new VirtualClock();
    records = new ConsumerRecords(clock);
    record = records.add(definitionOf('default'));
    stopping = new AbortController();
    [logged, registered, dropped] = [[], [], []];
    calls = { changed: 0, began: 0, hurried: 0 };
    refresh = () => new Promise(() => undefined);
    const log = (line: string) => void logged.push(line);
    const parts = {
      clock,
      log: { log, warn: log, error: log },
      activity: new Activity(),
      keeper: { drop: (lease: Lease) => void dropped.push(lease) },
      options: { readAhead: 10, readAheadBytes: 1_000 },
      retention: () => undefined,
      partitions: () => 1,
      store: {},
    };
    type Given = ConstructorParameters<typeof LeaseTerms>;
    terms = new LeaseTerms(
      records,
      { stands: () => undefined, left: () => undefined } as unknown as Given[1],
      parts as unknown as Given[2],
      { registerInBackground: (some: ConsumerRecord) => void registered.push(some) } as unknown as Given[3],
      { began: () => void (calls.began += 1), ended: () => undefined, refresh: () => refresh() } as unknown as Given[4],
      { hurry: () => void (calls.hurried += 1) } as unknown as Given[5],
      stopping.signal,
      () => void (calls.changed += 1),
      () => ({}) as ReturnType<Given[8]>,
    );
  });

  function definitionOf(group: string): ConsumerDefinition {
    const emitter = new CountWindow();
    const choice = { key: key(group), label: `Test.${group}`, emitter, emitterContext: { size: 1 }, workers: 1 };
    return { ...choice, maxSize: 10, maxBytes: 1_000, lookAhead: 10 } as unknown as ConsumerDefinition;
  }

  const acquired = () => {
    terms.acquired(key('default'), leaseOf('default'), true);
    return record.current;
  };

  it('begin with the lease, and end with it', () => {
    const current = acquired();
    expect(current?.term).toMatchObject({ lease: leaseOf('default'), clean: true, isOver: false });
    expect(calls).toEqual({ changed: 1, began: 1, hurried: 0 });
    terms.lost(key('default'));
    expect(current?.term.isOver).toBe(true);
    expect([record.left, calls.hurried]).toEqual([0, 1]);
    // Only the first loss counts.
    terms.lost(key('default'));
    expect(calls.hurried).toBe(1);
  });

  it('do not begin for a consumer that is not there, that leaves, or while the engine stops', () => {
    terms.acquired(key('another'), leaseOf('another'), true);
    record.removed = true;
    expect(acquired()).toBeUndefined();
    record.removed = false;
    stopping.abort();
    expect(acquired()).toBeUndefined();
    expect(calls).toEqual({ changed: 0, began: 0, hurried: 0 });
  });

  it('are not lost where there is none', () => {
    terms.lost(key('another'));
    terms.lost(key('default'));
    expect([record.left, calls.hurried]).toEqual([undefined, 0]);
  });

  it.each([
    { to: owner, what: 'another process took over and continues with 3 open windows' },
    { to: undefined, what: "its lease was taken away, with 3 open windows: group 'default' was removed" },
  ])('say once where the windows went: $what', ({ to, what }) => {
    terms.wentTo(key('another'), to);
    terms.wentTo(key('default'), to);
    expect(logged).toEqual([]);
    record.left = 3;
    terms.wentTo(key('default'), to);
    terms.wentTo(key('default'), to);
    expect(logged).toEqual([expect.stringContaining(what)]);
    expect(record).not.toHaveProperty('left');
  });

  it('register a consumer again whose group is gone from the store, unless it leaves anyway', () => {
    terms.missing(key('another'));
    record.removed = true;
    terms.missing(key('default'));
    record.removed = false;
    expect([registered, logged]).toEqual([[], []]);
    record.left = 3;
    terms.missing(key('default'));
    expect(registered).toEqual([record]);
    expect(logged).toEqual([expect.stringContaining("group 'default' of stream 's' is gone from the store")]);
    // Nobody has taken its windows over.
    expect(record).not.toHaveProperty('left');
    stopping.abort();
    terms.missing(key('default'));
    expect(registered).toEqual([record]);
  });

  it('make room for the next one when they have ended, and take nothing of it', async () => {
    let answer = () => undefined as void;
    refresh = () =>
      new Promise((_, reject) => {
        answer = () => reject(leaseLost(key('default')));
      });
    const first = acquired();
    const lateAnswer = answer;
    const second = acquired();
    expect(second).not.toBe(first);
    lateAnswer();
    await first?.done;
    expect([record.current, calls.changed]).toEqual([second, 2]);
    answer();
    await second?.done;
    expect(record).not.toHaveProperty('current');
    expect(calls.changed).toBe(3);
    expect(dropped).toEqual([leaseOf('default'), leaseOf('default')]);
    // A lease that is lost is no failure.
    expect([logged, record.counters.failures, record.initialised]).toEqual([[], 0, false]);
  });

  it('leave what was there to the engine while it stops', async () => {
    refresh = () => Promise.reject(leaseLost(key('default')));
    const current = acquired();
    stopping.abort();
    await current?.done;
    expect([record.current, calls.changed]).toEqual([current, 1]);
  });
});
