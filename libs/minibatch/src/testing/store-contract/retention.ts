import assert from 'node:assert/strict';
import type { ContractContext, TestFunctions } from './context.js';
import { append, finish, hold, ids, message, NOON, ns, numbers, read, register, STREAM } from './fixtures.js';

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
      const { tombstones } = await store.sweep(STREAM, { tombstones: new Date(Date.now() + 60_000) });
      assert.equal(tombstones, 1);
    });

    it('remembers until when a stream was cleared, and never goes back', async () => {
      const { store } = context;
      const info = await store.ensureStream(STREAM);
      assert.equal(info.cleared, undefined);
      await store.updateStream(STREAM, { cleared: LATER });
      await store.updateStream(STREAM, { cleared: new Date(NOON) });
      await store.updateStream(STREAM, { paused: true });
      const other = await context.another();
      assert.deepEqual((await other.describeStream(STREAM))?.cleared, LATER);
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
      await store.bury(lease, [
        { message: first, window: 'w', consumer: 'c', attempts: 1, error: 'e', died: new Date(NOON) },
      ]);
      await finish(store, lease, 1, [first]);
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
