import assert from 'node:assert/strict';
import type { ContractContext, TestFunctions } from './context.js';
import type { StoredMessage } from '../../storage/stream-store.interface.js';
import {
  ALL,
  append,
  die,
  finish,
  hold,
  ids,
  key,
  message,
  NOON,
  ns,
  numbers,
  read,
  register,
  rejectsWith,
  STREAM,
} from './fixtures.js';

const LATER = new Date(NOON + 60_000);

export function retentionContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('retention', () => {
    it('counts what is in the buffer, no further than it is asked to', async () => {
      const { store } = context;
      await register(store, 'default', 'other');
      assert.equal(await store.count(STREAM, 10), 0);
      assert.equal(await store.count('missing', 10), 0);
      await append(store, ...numbers(7));
      assert.equal(await store.count(STREAM, 10), 7);
      assert.equal(await store.count(STREAM, 5), 5);
      const lease = await hold(store);
      await finish(store, lease, 1, (await read(store)).slice(0, 3));
      assert.equal(await store.count(STREAM, 10), 7, 'the other group has not committed them');
      await store.removeGroup(STREAM, 'other');
      assert.equal(await store.count(STREAM, 10), 4);
    });

    it('removes what is too old of a stream that nobody consumes', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await append(store, ...numbers(3), message({ n: 'edge' }, { created: LATER }));
      assert.equal(await store.expire(STREAM, LATER), 3);
      assert.equal(await store.expire(STREAM, LATER), 0);
      assert.equal(await store.expire('missing', LATER), 0);
      await register(store, 'default');
      assert.deepEqual(ns(await read(store)), ['edge']);
    });

    it('removes any number of them', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await append(store, ...numbers(2_500), message({ n: 'new' }, { created: LATER }));
      assert.equal(await store.expire(STREAM, LATER), 2_500);
      assert.equal(await store.count(STREAM, 10), 1);
    });

    it('removes nothing of a stream that has a group', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(3));
      assert.equal(await store.expire(STREAM, LATER), 0);
      assert.equal((await read(store)).length, 3);
    });

    it('remembers the dedupe ids of what was too old', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await append(store, message({ n: 1 }, { dedupeId: 'a' }));
      assert.equal(await store.expire(STREAM, LATER), 1);
      const [again] = await store.append([message({ n: 1 }, { dedupeId: 'a' })]);
      assert.equal(again?.status, 'duplicate');
      const later = new Date(Date.now() + 60_000);
      const swept = await store.sweep(STREAM, { tombstones: later, kept: later });
      assert.deepEqual(swept, { tombstones: 1, messages: 0, windows: 0 }, 'nobody has asked to keep the message');
    });

    it('clears what is in the buffer, and nothing that comes after it, whatever the clocks say', async () => {
      const { store } = context;
      await register(store, 'default', 'other');
      const year = 365 * 86_400_000;
      const of = (n: unknown, time: number, extra = {}) => message({ n }, { created: new Date(time), ...extra });
      await append(
        store,
        of(1, NOON - year),
        of(2, NOON + year),
        of(3, NOON, { dedupeId: 'd' }),
        of(4, NOON, { key: 'k' }),
      );
      assert.equal((await store.describeStream(STREAM))?.clearings, undefined);
      const { clearings } = await store.updateStream(STREAM, { clear: true });
      assert.equal(clearings, 1);
      const other = await context.another();
      await append(other, of(5, NOON - year), of(6, NOON + year), of(7, NOON));

      const cleared = new Set([1, 2, 3, 4]);
      const check = (messages: readonly StoredMessage[], count = 7) => {
        assert.equal(messages.length, count);
        for (const each of messages) {
          assert.equal(each.cleared ?? false, cleared.has((each.data as { n: number }).n), JSON.stringify(each.data));
        }
      };
      for (const each of [store, other]) {
        for (const group of ['default', 'other']) {
          check(await read(each, key(group)));
          check((await each.fetchByTime(key(group), {}, undefined, ALL)).messages);
          check(await each.load(key(group), ids(await read(each, key(group)))));
        }
      }
      const lease = await hold(store);
      await finish(store, lease, 1, (await read(store)).slice(0, 3));
      check(await read(store), 4);
      check(await read(store, key('other')));

      // Other changes clear nothing, another clearing does.
      await store.updateStream(STREAM, { paused: true, flush: true });
      check(await read(store, key('other')));
      await store.updateStream(STREAM, { clear: true });
      for (const n of [5, 6, 7]) cleared.add(n);
      await append(store, of(8, 0));
      check(await read(store, key('other')), 8);
      assert.equal((await other.describeStream(STREAM))?.clearings, 2);
    });

    it('clears nothing that was put back, before or afterwards', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(3));
      const lease = await hold(store);
      const messages = await read(store);
      await die(store, lease, 1, messages.slice(0, 1));
      await store.redrive(STREAM, {});
      await store.updateStream(STREAM, { clear: true });
      const after = await read(store);
      assert.deepEqual(
        after.map(({ cleared = false }) => cleared),
        [true, true, false],
      );
      // Claimed before the clearing, so it went its way.
      await die(store, lease, 2, after.slice(0, 1));
      await store.redrive(STREAM, {});
      const last = (await read(store)).at(-1);
      assert.deepEqual([last?.redriven, last?.cleared], [true, undefined]);
      assert.equal(await store.count(STREAM, 10), 3);
    });

    it('removes what was cleared of a stream that nobody consumes', async () => {
      const { store } = context;
      await store.ensureStream(STREAM);
      await append(store, ...numbers(1_200), message({ n: 'ahead' }, { created: LATER, dedupeId: 'a' }));
      await store.updateStream(STREAM, { clear: true });
      await append(store, message({ n: 'new' }, { created: new Date(0) }));
      assert.equal(await store.expire(STREAM), 1_201);
      assert.equal(await store.expire(STREAM), 0);
      const [again] = await store.append([message({ n: 'ahead' }, { dedupeId: 'a' })]);
      assert.equal(again?.status, 'duplicate');
      await register(store, 'default');
      assert.deepEqual(ns(await read(store)), ['new']);
    });

    it('clears no stream that is not there', async () => {
      await rejectsWith('MINIBATCH_UNKNOWN_STREAM', context.store.updateStream('missing', { clear: true }));
    });

    it('tells which messages were put back', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(2));
      const messages = await read(store);
      assert.ok(messages.every(({ redriven }) => !redriven));
      const lease = await hold(store);
      const [first] = messages;
      assert.ok(first);
      await die(store, lease, 1, [first]);
      await store.redrive(STREAM, {});
      const after = await read(store);
      assert.deepEqual(
        after.map(({ redriven = false }) => redriven),
        [false, true],
      );
      const back = after.find(({ redriven }) => redriven);
      const [loaded] = await store.load({ stream: STREAM, group: 'default', partition: 0 }, ids(back ? [back] : []));
      assert.equal(loaded?.redriven, true);
    });

    it('sweeps what was kept by the time that was given', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(3), message({ n: 'd' }, { dedupeId: 'd' }));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, messages.slice(0, 2), { keep: true, at: new Date(NOON) });
      await finish(store, lease, 2, messages.slice(2, 3), { keep: true, at: LATER });
      await finish(store, lease, 3, messages.slice(3), { keep: false, at: new Date(NOON) });
      assert.deepEqual(await store.sweep(STREAM, { kept: new Date(NOON) }), { tombstones: 0, messages: 0, windows: 0 });
      assert.deepEqual(await store.sweep(STREAM, { kept: LATER, tombstones: LATER }), {
        tombstones: 1,
        messages: 2,
        windows: 1,
      });
    });
  });
}
