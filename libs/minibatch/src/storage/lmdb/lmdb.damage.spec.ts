import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Process, STREAM } from '../../engine/process.spec.support.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { MemoryDatabase } from '../memory/memory.database.js';
import type { Effects, Lease } from '../stream-store.interface.js';
import { LmdbEnvironment } from './environment.js';
import { LmdbStreamStore } from './index.js';
import { dueKey, stateKey } from './state-keys.js';
import {
  Kind,
  letterRange,
  messageKey,
  META_KEY,
  nameKey,
  placeKey,
  placeSeqKey,
  prefixRange,
  streamKey,
} from './keys.js';

/** Bits that a disk has changed: written over by the environment, as no store would. */
describe('damage in an LmdbStreamStore', () => {
  let path: string;
  let store: LmdbStreamStore;
  let environment: LmdbEnvironment;
  const key = { stream: STREAM, group: 'default', partition: 0 };
  const place = { stream: 1, group: 1, partition: 0 };
  const all = { messages: 1_000, bytes: 1e9 };
  const damage = (at: Buffer, change: (bytes: Buffer) => Buffer | undefined) =>
    environment.write((view) => {
      const bytes = Buffer.from(view.get(at)!);
      view.put(at, change(bytes) ?? bytes);
    });
  const append = (...data: unknown[]) =>
    store.append(data.map((item) => ({ stream: STREAM, data: item, created: new Date() })));
  const owner = { id: 'a', host: '', bootId: '', pid: 1, startTime: '' };

  beforeEach(async () => {
    path = mkdtempSync(join(tmpdir(), 'minibatch-lmdb-'));
    store = new LmdbStreamStore({ path });
    await store.open();
    environment = await LmdbEnvironment.open(path, 126, 0o600);
  });
  afterEach(async () => {
    await environment.close();
    await store.close();
    rmSync(path, { recursive: true, force: true });
  });

  const ways: Record<string, (bytes: Buffer) => Buffer | undefined> = {
    'is cut off': (bytes) => bytes.subarray(0, 5),
    'is empty': () => Buffer.alloc(0),
    'has flags that nobody sets': (bytes) => void (bytes[0] = 0x40),
    'has no time': (bytes) => void bytes.writeDoubleBE(Number.NaN, 1),
    'has a time beyond all': (bytes) => void bytes.writeDoubleBE(1e300, 1),
    'has a time with a flipped bit': (bytes) => void (bytes[7]! ^= 1),
  };
  for (const [what, change] of Object.entries(ways)) {
    it(`skips a message that ${what}, and continues with the others`, async () => {
      await store.registerGroup(key, { timeOrder: true });
      await append(1, 2, 3);
      await damage(messageKey(1, 0, 2), change);
      const block = await store.fetch(key, undefined, all);
      expect(block.messages.map(({ data }) => data)).toEqual([1, 3]);
      expect(block.damaged).toHaveLength(1);
      const { messages } = await store.fetchByTime(key, {}, undefined, all);
      expect(messages.map(({ data }) => data)).toEqual([1, 3]);
      expect(await store.load(key, [...block.damaged!, messages[0]!.id])).toHaveLength(1);
      expect(await append(4)).toMatchObject([{ status: 'stored' }]);
      expect((await store.stats([STREAM]))[0]?.oldest?.getTime()).not.toBeNaN();
      await store.removeGroup(STREAM, 'default');
      expect(await store.expire(STREAM, new Date(Date.now() + 1_000))).toBe(3);
      expect(await store.count(STREAM, 10)).toBe(1);
    });
  }

  it('leaves a damaged message where it is when a group is removed, and lets the others go', async () => {
    const groups = ['default', 'slow'];
    for (const group of groups) await store.registerGroup({ ...key, group });
    const lease = (await store.acquireLease(key, owner, { fence: 0, counter: 0 }))!;
    await append(1, 2, 3);
    const { messages } = await store.fetch(key, undefined, all);
    const window = { seq: 1, id: 'w', messageIds: messages.map(({ id }) => id), attempt: 1, recoveries: 0 };
    await store.settle(lease, [{ window: { ...window, created: new Date() }, messages }], { groups, keep: false });
    await damage(messageKey(1, 0, 2), (bytes) => bytes.subarray(0, 5));
    await store.removeGroup(STREAM, 'slow');
    expect(await store.count(STREAM, 10)).toBe(1);
  });

  it('counts what is skipped once, and logs it once, while the consumer continues', async () => {
    const p = new Process(new MemoryDatabase(), { store });
    await p.consumer({ size: 2 }).start();
    await append(1);
    await damage(messageKey(1, 0, 1), (bytes) => bytes.subarray(0, 3));
    for (let n = 2; n < 8; n += 1) await p.append(n);
    expect(p.values).toEqual([2, 3, 4, 5, 6, 7]);
    expect(p.engine.status()[0]).toMatchObject({ damaged: 1, failures: 0 });
    expect(p.logged.filter((line) => line.includes('damaged'))).toHaveLength(1);
    const stopping = p.engine.stop(0);
    await p.clock.advance(10_000);
    await stopping;
  });

  it('names the record that makes no sense', async () => {
    await store.ensureStream(STREAM);
    await store.registerGroup(key);
    const lease = (await store.acquireLease(key, owner, { fence: 0, counter: 0 }))!;
    await append(1, 2);
    const { messages } = await store.fetch(key, undefined, all);
    const window = { seq: 1, id: 'w', messageIds: messages.map(({ id }) => id), attempt: 1, recoveries: 0 };
    await store.claim(lease, [{ ...window, created: new Date() }]);

    const records: Record<string, { at: Buffer; call: () => Promise<unknown>; what: string }> = {
      schema: { at: META_KEY, call: () => store.ensureStream('another'), what: 'schema' },
      name: { at: nameKey(STREAM), call: () => append(1), what: `'${STREAM}'` },
      stream: { at: streamKey(Kind.Stream, 1), call: () => store.describeStream(STREAM), what: 'stream number 1' },
      list: { at: streamKey(Kind.Stream, 1), call: () => store.listStreams(), what: 'stream number 1' },
      tail: { at: streamKey(Kind.Tail, 1), call: () => append(1), what: 'last number' },
      lease: { at: placeKey(Kind.Consumer, place), call: () => store.renewLeases([lease]), what: 'lease' },
      window: { at: placeSeqKey(Kind.Window, place, 1), call: () => store.recover(lease), what: 'window' },
    };
    for (const [name, { at, call, what }] of Object.entries(records)) {
      for (const change of [
        (bytes: Buffer) => bytes.subarray(0, bytes.length - 3),
        (bytes: Buffer) => Buffer.alloc(bytes.length, 0xff),
        () => Buffer.from([5, 0, 0, 0, 0]),
      ]) {
        const whole = environment.read((view) => Buffer.from(view.get(at)!));
        // The number of a stream has no right and wrong beyond its length.
        if (name === 'name' && change(whole).length === whole.length) continue;
        await damage(at, change);
        await expect(call(), name).rejects.toMatchObject({
          code: ErrorCode.StoreDamaged,
          message: expect.stringContaining(what) as unknown,
        });
        await damage(at, () => whole);
      }
    }
    expect((await store.recover(lease)).open).toHaveLength(1);
  });

  const letterDamage: Record<string, (bytes: Buffer) => Buffer | undefined> = {
    'is empty': () => Buffer.alloc(0),
    'is cut off in its note': (bytes) => bytes.subarray(0, 20),
    'is cut off in its message': (bytes) => bytes.subarray(0, bytes.readInt32LE(0) + 4),
    'claims a length beyond its end': (bytes) => void bytes.writeInt32LE(1_000_000, 0),
    'claims a negative length': (bytes) => void bytes.writeInt32LE(-5, 0),
    'has a note that is no BSON': (bytes) => void bytes.fill(0xff, 4, 20),
    'has a note without its fields': (bytes) =>
      Buffer.concat([Buffer.from([5, 0, 0, 0, 0]), bytes.subarray(bytes.readInt32LE(0))]),
    'has a message with flags that nobody sets': (bytes) => void (bytes[bytes.readInt32LE(0)] = 0x40),
  };
  for (const [what, change] of Object.entries(letterDamage)) {
    it(`passes over a dead letter that ${what}, and lists, redrives and discards the others`, async () => {
      await store.registerGroup(key);
      const lease = (await store.acquireLease(key, owner, { fence: 0, counter: 0 }))!;
      await append(1, 2, 3);
      const { messages } = await store.fetch(key, undefined, all);
      const death = { window: 'w', consumer: 'c', attempts: 3, error: 'no', died: new Date() };
      await store.bury(
        lease,
        messages.map((message) => ({ message, ...death })),
      );
      const [, damaged] = await store.deadLetters(STREAM, {}, undefined, 10);
      const at = environment.read((view) => [...view.keys(letterRange(1, 1, 2))][0]!);
      await damage(at, change);

      // A page is full although a damaged letter lies in it.
      const page = await store.deadLetters(STREAM, {}, undefined, 2);
      expect(page.map(({ data }) => data)).toEqual([1, 3]);
      expect(await store.deadLetters(STREAM, { ids: [damaged!.id] }, undefined, 10)).toEqual([]);
      expect(await store.redrive(STREAM, {})).toBe(2);
      expect((await store.stats([STREAM]))[0]?.deadLetters).toBe(1);
      expect(await store.deadLetters(STREAM, {}, undefined, 10)).toEqual([]);
      expect(await store.discard(STREAM, {})).toBe(1);
      expect((await store.stats([STREAM]))[0]?.deadLetters).toBe(0);
    });
  }

  it('passes over a damaged window, and finds and lists the others, while they are open and when they are kept', async () => {
    await store.registerGroup(key);
    const lease = (await store.acquireLease(key, owner, { fence: 0, counter: 0 }))!;
    await append(1, 2, 3);
    const { messages } = await store.fetch(key, undefined, all);
    const windows = messages.map(({ id }, index) => ({
      seq: index + 1,
      id: `w${index + 1}`,
      messageIds: [id],
      created: new Date(),
      attempt: 1,
      recoveries: 0,
    }));
    await store.claim(lease, windows);
    const listed = async (state: 'claimed' | 'kept') =>
      (await store.readWindows(key, state, undefined, 10)).windows.map(({ id }) => id);
    const broken = (bytes: Buffer) => Buffer.alloc(bytes.length, 0xff);

    const open = placeSeqKey(Kind.Window, place, 1);
    const whole = environment.read((view) => Buffer.from(view.get(open)!));
    await damage(open, broken);
    expect(await store.findWindow(key, 'w2')).toMatchObject({ id: 'w2' });
    expect(await store.findWindow(key, 'w1')).toBeUndefined();
    expect(await listed('claimed')).toEqual(['w2', 'w3']);

    await damage(open, () => whole);
    const settled = windows.map((window, index) => ({ window, messages: [messages[index]!] }));
    await store.settle(lease, settled, { groups: ['default'], keep: true });
    const [kept] = environment.read((view) => [...view.keys(prefixRange(streamKey(Kind.KeptWindow, 1)))]);
    await damage(kept!, broken);
    expect(await listed('kept')).toEqual(['w2', 'w3']);
    // It leaves with its time all the same.
    expect(await store.sweep(STREAM, { kept: new Date(Date.now() + 1_000) })).toMatchObject({ windows: 3 });
  });

  it('does not read billions of ids out of a window with a flipped bit', async () => {
    await store.registerGroup(key);
    const lease = (await store.acquireLease(key, owner, { fence: 0, counter: 0 }))!;
    await append(1);
    const { messages } = await store.fetch(key, undefined, all);
    const window = { seq: 1, id: 'w', messageIds: messages.map(({ id }) => id), attempt: 1, recoveries: 0 };
    await store.claim(lease, [{ ...window, created: new Date() }]);
    await damage(placeSeqKey(Kind.Window, place, 1), (bytes) => {
      const run = bytes.indexOf(Buffer.from([0, 0, 0, 0, 0, 1, 0, 0, 0, 1]));
      bytes[run + 6] = 0x80;
      return bytes;
    });
    await expect(store.recover(lease)).rejects.toMatchObject({ code: ErrorCode.StoreDamaged });
  });

  const rowDamage: Record<string, (bytes: Buffer) => Buffer | undefined> = {
    'is empty': () => Buffer.alloc(0),
    'is due, and cut off in its time': (bytes) => bytes.subarray(0, 8),
    'begins with what nobody writes': (bytes) => void (bytes[0] = 0xff),
    'is due at no time': (bytes) => void bytes.fill(0xff, 1, 9),
    'is due at a time beyond all': (bytes) => void bytes.writeDoubleBE(1e300, 1),
  };
  for (const [what, change] of Object.entries(rowDamage)) {
    it(`names a row of state that ${what}, and brings the others`, async () => {
      const { lease, call } = await withRows();
      await damage(stateKey(place, 'b'), change);
      const named = { code: ErrorCode.StoreDamaged, message: expect.stringContaining('row "b"') as unknown };
      for (const read of [() => call.read('a', 'b'), call.due, call.list])
        await expect(read()).rejects.toMatchObject(named);
      for (const effects of [{ put: [{ slot: 'b', value: Buffer.from('new') }] }, { remove: ['b'] }]) {
        await expect(call.commit(lease, effects)).rejects.toMatchObject(named);
      }
      expect((await call.read('a', 'c')).map(({ slot }) => slot)).toEqual(['a', 'c']);
      await call.commit(lease, { put: [{ slot: 'a', value: Buffer.from('new') }], remove: ['c'] });
      await store.removeGroup(STREAM, 'default');
      await store.registerGroup(key);
      expect((await call.list()).rows).toEqual([]);
    });
  }

  it('names the index of due rows if it leads nowhere, or elsewhere', async () => {
    const { call } = await withRows();
    const wrong = { code: ErrorCode.StoreDamaged, message: expect.stringContaining('index of due rows') as unknown };
    for (const entry of [dueKey(place, 2, 'none'), dueKey(place, 7, 'a')]) {
      await environment.write((view) => view.put(entry, Buffer.from([1])));
      await expect(call.due()).rejects.toMatchObject(wrong);
      await environment.write((view) => view.remove(entry));
    }
    expect((await call.due()).map(({ slot }) => slot)).toEqual(['a', 'b', 'c']);
  });

  /** Rows `a`, `b` and `c`, due at 1, 2 and 3, and the calls that read and write them. */
  async function withRows() {
    await store.registerGroup(key);
    const lease = (await store.acquireLease(key, owner, { fence: 0, counter: 0 }))!;
    let seq = 0;
    const limits = { rows: 10, bytes: 1000 };
    const call = {
      read: (...slots: string[]) => store.readState(key, slots),
      due: () => store.dueState(key, new Date(10), undefined, limits),
      list: () => store.listState(key, undefined, limits),
      commit: (held: Lease, effects: Effects) => {
        seq += 1;
        const progress = { lastSeq: seq, windows: seq, messages: 0 };
        return store.commit(held, { finished: [seq], progress, effects: new Map([[seq, effects]]) });
      },
    };
    const put = ['a', 'b', 'c'].map((slot, n) => ({ slot, value: Buffer.from('value'), due: new Date(n + 1) }));
    await call.commit(lease, { put });
    return { lease, call };
  }
});
