import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SystemClock } from '../../common/clock.js';
import { StreamHub } from '../../streams/stream-hub.js';
import type { Lease, MessageId, StoredMessage } from '../stream-store.interface.js';
import { findStream, saveStream } from './stream-records.js';
import { LmdbEnvironment } from './environment.js';
import { LmdbStreamStore } from './index.js';
import { keptAtKey, keptMessageKey, keptWindowKey, Kind, messageKey, placeSeqKey, prefixRange } from './keys.js';

const KEY = { stream: 's', group: 'default', partition: 0 };
const PLACE = { stream: 1, group: 1, partition: 0 };
const ALL = { messages: 100_000, bytes: Number.MAX_SAFE_INTEGER };
const OWNER = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };
const LOG = { log: () => undefined, warn: () => undefined, error: () => undefined };
const AT = new Date(1_000);

/** What stays in an LMDB store, looked at from below. */
describe('kept messages and windows in an LmdbStreamStore', () => {
  let path: string;
  let store: LmdbStreamStore;
  let environment: LmdbEnvironment;
  let lease: Lease;
  let seq = 0;
  beforeEach(async () => {
    path = mkdtempSync(join(tmpdir(), 'minibatch-lmdb-'));
    store = new LmdbStreamStore({ path });
    await store.open();
    environment = await LmdbEnvironment.open(path, 126, 0o600);
    await store.registerGroup(KEY);
    lease = (await store.acquireLease(KEY, OWNER, { fence: 0, counter: 0 }))!;
    seq = 0;
  });
  afterEach(async () => {
    await environment.close();
    await store.close();
    rmSync(path, { recursive: true, force: true });
  });

  const append = (count: number) =>
    store.append(Array.from({ length: count }, (_, n) => ({ stream: 's', data: n, created: new Date() })));
  const keep = async (messages: readonly StoredMessage[], at = AT) => {
    seq += 1;
    const window = { seq, id: `w${seq}`, messageIds: messages.map(({ id }) => id), attempt: 1, recoveries: 0 };
    const settled = [{ window: { ...window, created: AT }, messages }];
    await store.claim(lease, [settled[0]!.window]);
    const progress = { lastSeq: seq, windows: seq, messages: seq };
    const groups = await store.commit(lease, { finished: [seq], progress });
    await store.settle(lease, settled, { groups, keep: true, at });
  };
  const fetch = async () => (await store.fetch(KEY, undefined, ALL)).messages;
  const count = (kind: Kind) => environment.read((view) => view.count(prefixRange(Buffer.from([kind]))));
  const kept = async (after?: MessageId) => (await store.readKept('s', after, ALL)).messages.map(({ data }) => data);

  it('leave no records behind when they are swept or dropped', async () => {
    await append(6);
    const messages = await fetch();
    await keep(messages.slice(0, 4));
    await keep(messages.slice(4), new Date(2_000));
    expect([count(Kind.KeptMessage), count(Kind.KeptAt), count(Kind.KeptWindow)]).toEqual([6, 6, 2]);
    await store.sweep('s', { kept: new Date(2_000) });
    expect([count(Kind.KeptMessage), count(Kind.KeptAt), count(Kind.KeptWindow)]).toEqual([2, 2, 1]);
    await store.dropStream('s');
    expect([count(Kind.KeptMessage), count(Kind.KeptAt), count(Kind.KeptWindow)]).toEqual([0, 0, 0]);
  });

  it('leave no record of their copies behind when they are swept, nor after the next replay when they have left', async () => {
    await store.registerGroup({ ...KEY, group: 'other' });
    await append(4);
    const messages = await fetch();
    await keep(messages);
    await store.removeGroup('s', 'other');
    await store.registerGroup({ ...KEY, group: 'other' });
    for (const group of ['default', 'other']) expect(await store.replay('s', group, {})).toBe(4);
    expect(count(Kind.Replay)).toBe(8);
    await store.removeGroup('s', 'other');
    expect(await store.replay('s', 'default', {})).toBe(0);
    expect(count(Kind.Replay)).toBe(4);
    await store.sweep('s', { kept: new Date(Date.now() + 60_000) });
    expect([count(Kind.Replay), count(Kind.KeptAt), count(Kind.KeptMessage)]).toEqual([0, 0, 0]);
  });

  it('leave no record behind of a redriven message that has left', async () => {
    await store.registerGroup({ ...KEY, group: 'other' });
    await append(1);
    const [message] = await fetch();
    const letter = { message: message!, window: 'w', consumer: 'c', attempts: 1, error: 'e', died: AT };
    for (const leaves of [async () => keep(await fetch()), () => store.removeGroup('s', 'default')]) {
      await store.bury(lease, [letter]);
      await store.redrive('s', {});
      expect(count(Kind.Returned)).toBe(1);
      await leaves();
      expect(count(Kind.Returned)).toBe(0);
    }
  });

  it('are replayed without those that are damaged', async () => {
    await append(5);
    await keep(await fetch());
    await environment.write((view) => {
      view.put(keptMessageKey(1, AT.getTime(), 0, 2), Buffer.from([1, 2, 3]));
      view.put(keptAtKey(1, 3), Buffer.alloc(0));
    });
    expect(await store.replay('s', 'default', {})).toBe(3);
    expect((await fetch()).map(({ data }) => data)).toEqual([0, 3, 4]);
    expect(await store.replay('s', 'default', { created: { from: new Date(0) } })).toBe(0);
  });

  it('that an earlier version has kept are put in order by the first look, however many', async () => {
    const MANY = 12_000;
    await append(MANY);
    const messages = await fetch();
    await keep(messages.slice(6_000));
    await keep(messages.slice(0, 6_000), new Date(2_000));
    await environment.write((view) => {
      for (const key of [...view.keys(prefixRange(Buffer.from([Kind.KeptAt])))]) view.remove(key);
      const { keptOrder: _, ...stream } = findStream(view, 's')!;
      saveStream(view, stream);
    });
    const first = await store.readKept('s', undefined, { messages: 2, bytes: 1e9 });
    expect([first.messages.map(({ data }) => data), first.full]).toEqual([[0, 1], true]);
    expect(await kept()).toEqual(Array.from({ length: MANY }, (_, n) => n));
    expect(environment.read((view) => findStream(view, 's')?.keptOrder)).toBe(true);
    await append(1);
    await keep(await fetch());
    expect(await kept(messages.at(-1)?.id)).toEqual([0]);
  });

  const damages: Record<string, (bytes: Buffer) => Buffer> = {
    'is empty': () => Buffer.alloc(0),
    'is cut off': (bytes) => bytes.subarray(0, 5),
    'is something else': (bytes) => Buffer.alloc(bytes.length, 0xff),
  };
  it.each(Object.entries(damages))('are passed over where a record %s', async (_, change) => {
    await append(5);
    const messages = await fetch();
    for (const message of messages.slice(0, 4)) await keep([message]);
    await store.claim(lease, [
      { seq: 5, id: 'w5', messageIds: [], created: AT, attempt: 1, recoveries: 0 },
      { seq: 6, id: 'w6', messageIds: [], created: AT, attempt: 1, recoveries: 0 },
    ]);
    const places = [
      keptMessageKey(1, AT.getTime(), 0, 2),
      keptAtKey(1, 3),
      keptWindowKey(PLACE, AT.getTime(), 2),
      placeSeqKey(Kind.Window, PLACE, 5),
    ];
    await environment.write((view) => {
      for (const at of places) view.put(at, change(Buffer.from(view.get(at)!)));
    });
    expect(await kept()).toEqual([0, 3]);
    const ids = async (state: 'claimed' | 'kept') =>
      (await store.readWindows(KEY, state, undefined, 100)).windows.map(({ id }) => id);
    expect(await ids('kept')).toEqual(['w1', 'w3', 'w4']);
    expect(await ids('claimed')).toEqual(['w6']);
  });

  it('do not end a look where one of them can’t be decoded', async () => {
    const hub = new StreamHub({ store, clock: new SystemClock(), log: LOG, retry: {} as never });
    const shown = async () => {
      const found = [];
      for await (const { undecodable, state, ...message } of hub.stream('s').messages())
        found.push([state, undecodable ?? (message as { data: unknown }).data]);
      return found;
    };
    const texts = ['abc', 'def', 'ghi'].map((data) => ({ stream: 's', data, created: new Date() }));
    await store.append(texts);
    await environment.write((view) => {
      const bytes = Buffer.from(view.get(messageKey(1, 0, 2))!);
      bytes[bytes.indexOf('def')] = 0xff;
      view.put(messageKey(1, 0, 2), bytes);
    });
    const why = expect.stringContaining('UTF-8') as unknown;
    const all = (state: string) => [
      [state, 'abc'],
      [state, why],
      [state, 'ghi'],
    ];
    expect(await shown()).toEqual(all('waiting'));
    await keep(await fetch());
    expect(await shown()).toEqual(all('kept'));
  });

  it('are found among many windows of another group, a part at each look', async () => {
    const other = { ...KEY, group: 'other' };
    await store.registerGroup(other);
    const held = lease;
    lease = (await store.acquireLease(other, OWNER, { fence: 0, counter: 0 }))!;
    const windows = Array.from({ length: 6_000 }, (_, n) => ({
      window: { seq: n + 1, id: `o${n}`, messageIds: [], created: AT, attempt: 1, recoveries: 0 },
      messages: [],
    }));
    await store.claim(
      lease,
      windows.map(({ window }) => window),
    );
    await store.settle(lease, windows, { groups: ['default', 'other'], keep: true, at: AT });
    lease = held;
    await keep([], new Date(2_000));
    const first = await store.readWindows(KEY, 'kept', undefined, 100);
    expect([first.windows.length, first.next === undefined]).toEqual([0, false]);
    const second = await store.readWindows(KEY, 'kept', first.next, 100);
    expect(second.windows.map(({ id }) => id)).toEqual(['w1']);
    expect(second.next).toBeUndefined();
  });
});
