import assert from 'node:assert/strict';
import type { KeptRange, Lease, StreamStore } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  append,
  bury,
  finish,
  hold,
  HOSTILE_NAMES,
  ids,
  key,
  message,
  NOON,
  ns,
  numbers,
  read,
  readAllKept,
  register,
  STREAM,
} from './fixtures.js';

/** What a store may leave out. One that has it keeps these promises. */
export function replayContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('replay', () => {
    it('hands kept messages to a group again, behind what is there, and keeps them', async () => {
      const { store } = context;
      if (!store.replay) return;
      const other = await context.another();
      await register(store, 'default');
      const created = new Date(NOON - 5);
      await append(store, message({ n: 0, big: 2n }, { key: 'k', headers: { h: 'v ✈' }, created }), ...numbers(2));
      const originals = (await read(store)).map((each) => each.read());
      const lease = await keepAll(store);
      await append(store, message({ n: 'new' }));
      assert.equal(await other.replay!(STREAM, 'default', {}), 3);
      const [first, ...copies] = await read(store);
      assert.deepEqual(first?.data, { n: 'new' });
      assert.deepEqual(
        copies.map((each) => ({ ...each.read(), id: '' })),
        originals.map((each) => ({ ...each, id: '' })),
      );
      assert.ok(copies.every(({ id }, n) => id !== originals[n]?.id && id > first!.id));
      assert.ok(copies.every(({ redriven, deduped }) => redriven === true && !deduped));
      assert.deepEqual(
        ids(await readAllKept(store)),
        originals.map(({ id }) => id),
      );
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 4);
      // They are not kept once more.
      await finish(store, lease, 2, copies, { keep: true });
      assert.deepEqual(ns(await read(store)), ['new']);
      assert.deepEqual(
        ids(await readAllKept(other)),
        originals.map(({ id }) => id),
      );
    });

    it('passes over what waits for the group, and hands over again what it has committed', async () => {
      const { store } = context;
      if (!store.replay) return;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(4));
      const lease = await keepAll(store);
      const [, second] = await readAllKept(store);
      assert.equal(await store.replay(STREAM, 'default', { to: second!.id }), 1);
      assert.equal(await other.replay!(STREAM, 'default', {}), 3);
      assert.equal(await store.replay(STREAM, 'default', {}), 0);
      const copies = await read(store);
      assert.deepEqual(ns(copies), [0, 1, 2, 3]);
      await finish(store, lease, 2, copies.slice(1, 3), { keep: true });
      assert.equal(await store.replay(STREAM, 'default', {}), 2);
      assert.deepEqual(ns(await read(store)), [0, 3, 1, 2]);
      assert.equal((await readAllKept(store)).length, 4);
    });

    it('is for one group alone, and another one may have its own', async () => {
      const { store } = context;
      if (!store.replay) return;
      await register(store, 'a', 'b', 'c');
      await append(store, ...numbers(2));
      const leases = new Map<string, Lease>();
      for (const group of ['a', 'b', 'c']) {
        leases.set(group, await hold(store, key(group), group));
        // Only one of them keeps what it commits.
        await finish(store, leases.get(group)!, 1, await read(store, key(group)), { keep: group === 'b' });
      }
      assert.equal(await store.replay(STREAM, 'a', {}), 2);
      for (const group of ['b', 'c']) assert.deepEqual(await read(store, key(group)), []);
      assert.equal(await store.replay(STREAM, 'c', {}), 2);
      assert.deepEqual(await read(store, key('b')), []);
      for (const group of ['a', 'c']) {
        assert.deepEqual(ns(await read(store, key(group))), [0, 1]);
        assert.deepEqual((await store.stats([STREAM]))[0]?.consumers.find((each) => each.group === group)?.pending, 2);
        await finish(store, leases.get(group)!, 2, await read(store, key(group)));
      }
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
      assert.equal((await readAllKept(store)).length, 2);
    });

    it('hands waiting copies to a group that comes meanwhile, and passes their messages over for it', async () => {
      const { store } = context;
      if (!store.replay) return;
      await register(store, 'a', 'b');
      await append(store, ...numbers(3));
      const a = await hold(store, key('a'));
      const b = await hold(store, key('b'), 'b');
      await finish(store, a, 1, await read(store, key('a')), { keep: true });
      await finish(store, b, 1, await read(store, key('b')));
      const [, second] = await readAllKept(store);
      assert.equal(await store.replay(STREAM, 'b', { from: second!.id }), 2);
      await store.registerGroup(key('new'));
      assert.deepEqual(ns(await read(store, key('new'))), [1, 2]);
      assert.equal(await store.replay(STREAM, 'new', {}), 1);
      assert.deepEqual(ns(await read(store, key('new'))), [1, 2, 0]);
      assert.deepEqual(ns(await read(store, key('b'))), [1, 2]);
      assert.deepEqual(await read(store, key('a')), []);
      // Nor does it matter that the group is gone for which they were made.
      await store.removeGroup(STREAM, 'b');
      assert.equal(await store.replay(STREAM, 'new', {}), 0);
      const copies = await read(store, key('new'));
      assert.deepEqual(ns(copies), [1, 2, 0]);
      const lease = await hold(store, key('new'), 'n');
      await finish(store, lease, 1, copies.slice(0, 1));
      assert.equal(await store.replay(STREAM, 'new', {}), 1);
      await finish(store, lease, 2, await read(store, key('new')));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
      assert.equal(await store.replay(STREAM, 'new', {}), 3);
    });

    it('does not keep a copy that has died and was redriven', async () => {
      const { store } = context;
      if (!store.replay) return;
      await register(store, 'default', 'other');
      await append(store, ...numbers(2));
      const lease = await keepAll(store);
      const other = await hold(store, key('other'), 'b');
      await finish(store, other, 1, await read(store, key('other')), { keep: true });
      const originals = ids(await readAllKept(store));
      assert.equal(await store.replay(STREAM, 'default', {}), 2);
      const copies = await read(store);
      await bury(store, lease, copies);
      await finish(store, lease, 2, copies, { keep: true });
      assert.equal(await store.redrive(STREAM, {}), 2);
      const back = await read(store);
      assert.deepEqual(ns(back), [0, 1]);
      await finish(store, lease, 3, back, { keep: true });
      assert.deepEqual(ids(await readAllKept(store)), originals);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
    });

    it('passes over a message whose copy has died and waits again after a redrive', async () => {
      const { store } = context;
      if (!store.replay) return;
      await register(store, 'default', 'other');
      await append(store, ...numbers(3));
      const lease = await keepAll(store);
      const other = await hold(store, key('other'), 'b');
      await finish(store, other, 1, await read(store, key('other')), { keep: true });
      assert.equal(await store.replay(STREAM, 'default', {}), 3);
      let seq = 1;
      // Dying twice makes no difference.
      for (const round of [1, 2]) {
        const copies = (await read(store)).filter(({ data }) => (data as { n: number }).n !== 1);
        assert.equal(copies.length, 2);
        await bury(store, lease, copies);
        await finish(store, lease, (seq += 1), round === 1 ? await read(store) : copies);
        assert.equal(await store.redrive(STREAM, {}), 2);
        // The copy of 1 was committed in the first round.
        assert.equal(await store.replay(STREAM, 'default', {}), round === 1 ? 1 : 0);
        assert.deepEqual(ns(await read(store)).toSorted(), [0, 1, 2]);
      }
      assert.equal(await store.replay(STREAM, 'other', {}), 3);
      await finish(store, lease, (seq += 1), await read(store));
      assert.equal(await store.replay(STREAM, 'default', {}), 3);
    });

    it('knows a copy whatever its data are, also an empty document', async () => {
      const { store } = context;
      if (!store.replay) return;
      await register(store, 'default');
      await append(store, message({}), message([]), message(null), message({}, { key: 'k', dedupeId: 'd' }));
      const lease = await keepAll(store);
      const originals = await readAllKept(store);
      assert.equal(await store.replay(STREAM, 'default', {}), 4);
      // They wait, so each is known to be a copy of its original.
      assert.equal(await store.replay(STREAM, 'default', {}), 0);
      const copies = await read(store);
      assert.deepEqual(
        copies.map(({ data, key: own }) => [data, own]),
        originals.map(({ data, key: own }) => [data, own]),
      );
      // It is known after it has died, too, and is not kept again.
      await bury(store, lease, copies);
      await finish(store, lease, 2, copies, { keep: true });
      assert.equal(await store.redrive(STREAM, {}), 4);
      assert.equal(await store.replay(STREAM, 'default', {}), 0);
      await finish(store, lease, 3, await read(store), { keep: true });
      assert.deepEqual(ids(await readAllKept(store)), ids(originals));
    });

    it('picks by id and by time, half-open', async () => {
      const { store } = context;
      if (!store.replay) return;
      await register(store, 'default');
      const at = (ms: number) => new Date(NOON + ms);
      const all = await append(store, ...[0, 30, 10, 20, 40].map((ms, n) => message({ n }, { created: at(ms) })));
      const lease = await keepAll(store);
      let seq = 1;
      const replayed = async (range: KeptRange) => {
        const count = await store.replay!(STREAM, 'default', range);
        const copies = await read(store);
        assert.equal(copies.length, count);
        seq += 1;
        await finish(store, lease, seq, copies);
        return ns(copies);
      };
      assert.deepEqual(await replayed({ from: all[1]! }), [1, 2, 3, 4]);
      assert.deepEqual(await replayed({ to: all[1]! }), [0]);
      assert.deepEqual(await replayed({ from: all[1]!, to: all[3]! }), [1, 2]);
      assert.deepEqual(await replayed({ created: { from: at(10), to: at(30) } }), [2, 3]);
      assert.deepEqual(await replayed({ created: { from: at(30) } }), [1, 4]);
      assert.deepEqual(await replayed({ created: { to: at(10) } }), [0]);
      assert.deepEqual(await replayed({ from: all[2]!, created: { to: at(40) } }), [2, 3]);
      assert.deepEqual(await replayed({ from: all[4]!, to: all[4]! }), []);
    });

    it('leaves out what is not kept any more, or not yet, and what is no group', async () => {
      const { store } = context;
      if (!store.replay) return;
      assert.equal(await store.replay('missing', 'default', {}), 0);
      await register(store, 'default');
      assert.equal(await store.replay(STREAM, 'default', {}), 0);
      await append(store, ...numbers(3), message({ n: 3 }, { dedupeId: 'd' }));
      const lease = await hold(store);
      const messages = await read(store);
      await finish(store, lease, 1, messages.slice(0, 1), { keep: true, at: new Date(NOON) });
      await finish(store, lease, 2, [messages[1]!, messages[3]!], { keep: true, at: new Date(NOON + 10) });
      await store.sweep(STREAM, { kept: new Date(NOON + 10) });
      assert.equal(await store.replay(STREAM, 'nobody', {}), 0);
      assert.equal(await store.replay(STREAM, 'default', {}), 2);
      assert.deepEqual(ns(await read(store)), [2, 1, 3]);
      // The original keeps its dedupe id; the copy has none.
      assert.equal((await store.append([message({}, { dedupeId: 'd' })]))[0]?.status, 'duplicate');
      await finish(store, lease, 3, await read(store));
      assert.equal((await store.append([message({}, { dedupeId: 'd' })]))[0]?.status, 'duplicate');
      await store.sweep(STREAM, { kept: new Date(NOON + 60_000), tombstones: new Date(NOON + 60_000) });
      assert.equal(await store.replay(STREAM, 'default', {}), 0);
    });

    it('hands over any number of them, and is not cleared', async () => {
      const { store } = context;
      if (!store.replay) return;
      await register(store, 'default');
      await append(store, ...numbers(2_500));
      await keepAll(store);
      const [before] = await store.poll([key()]);
      assert.equal(await store.replay(STREAM, 'default', {}), 2_500);
      const [after] = await store.poll([key()]);
      assert.notEqual(after, before);
      await store.updateStream(STREAM, { clear: true });
      const copies = await read(store);
      assert.deepEqual(
        ns(copies),
        Array.from({ length: 2_500 }, (_, n) => n),
      );
      assert.ok(copies.every(({ cleared }) => !cleared));
    });

    it('loses nothing when two do it at once', async () => {
      const { store } = context;
      if (!store.replay) return;
      const other = await context.another();
      await register(store, 'default');
      await append(store, ...numbers(700));
      await keepAll(store);
      const counts = await Promise.all([store, other].map((each) => each.replay!(STREAM, 'default', {})));
      const copies = await read(store);
      assert.equal(copies.length, counts[0]! + counts[1]!);
      assert.equal(new Set(ns(copies)).size, 700);
      assert.equal(await store.replay(STREAM, 'default', {}), 0);
    });

    it('takes any name', async () => {
      const { store } = context;
      if (!store.replay) return;
      for (const name of HOSTILE_NAMES) {
        const consumer = key(name, name);
        await store.ensureStream(name);
        await store.registerGroup(consumer);
        await append(store, message({ name }, { stream: name }));
        await finish(store, await hold(store, consumer), 1, await read(store, consumer), { keep: true });
      }
      for (const name of HOSTILE_NAMES) {
        assert.equal(await store.replay(name, name, {}), 1);
        assert.deepEqual(
          (await read(store, key(name, name))).map(({ data }) => data),
          [{ name }],
        );
      }
    });
  });
}

/** Commits all that is there, as a consumer that keeps it. */
async function keepAll(store: StreamStore): Promise<Lease> {
  const lease = await hold(store);
  await finish(store, lease, 1, await read(store), { keep: true });
  return lease;
}
