import { mongo } from 'mongoose';
import { beforeEach, describe, expect, it } from 'vitest';
import { dataOf, keyOf, RIVAL, takeLease } from '../../../../../test/support/mongoose-store.js';
import type { Lease } from '../stream-store.interface.js';
import {
  KEY,
  TARGET,
  DAY,
  LATER,
  PAGE,
  commit,
  output,
  row,
  rowsOf,
  settle,
  takeOver,
  useConsumer,
} from './effects.spec.support.js';

describe('state of consumers', () => {
  const { test, another, consumers, consumer, states, decided, ...held } = useConsumer();
  let lease: Lease;
  beforeEach(() => void (lease = held.lease()));

  describe('in the collection of others', () => {
    it('pass over what is no row, and take its place where they have to', async () => {
      const { store } = test;
      await (await commit(store, lease, new Map([[1, { put: [row('a', 1, new Date(1)), row('b', 1)] }]]))).settle();
      const state = (await consumer()).stateId!.toHexString();
      const foreign = [
        { _id: new mongo.ObjectId(), settled: new Date(0) },
        { _id: 7, value: 'x', settled: new Date(0) },
        { _id: 'Nebraska', settled: new Date(0), version: 'x' },
        { _id: `${state}x`, name: 'x' },
        { _id: `${state}y`, version: 5, value: 'text', dueKey: `${state}0` },
        { _id: `${state}z`, value: null, settled: new Date(0) },
      ];
      await states().insertMany(foreign as mongo.Document[]);
      expect(await rowsOf(store)).toEqual({ a: 1, b: 1 });
      expect(await store.readState(KEY, ['a', 'x', 'y', 'z'])).toHaveLength(1);
      expect(await store.dueState(KEY, new Date(), undefined, PAGE)).toHaveLength(1);
      await store.sweep('flights', LATER);
      expect(await states().countDocuments()).toBe(2 + foreign.length);
      const put = ['x', 'y', 'z'].map((slot) => row(slot, 2));
      await (await commit(store, lease, new Map([[2, { put }]]))).settle();
      expect(await rowsOf(store)).toEqual({ a: 1, b: 1, x: 2, y: 2, z: 2 });
    });

    it('ignore what others have put among them', async () => {
      const { store } = test;
      await (await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]))).settle();
      const foreign = { 'effects.x': { fence: 1 }, 'effects.7': 'text', 'effects.8': null };
      await consumers().updateOne({ _id: 'flights/default/0' }, { $set: foreign });
      await takeOver(await another());
      expect(await rowsOf(store)).toEqual({ a: 1 });
    });

    it('find their indexes when somebody has dropped the collection', async () => {
      const { store, connection } = test;
      const names = async () => (await states().listIndexes().toArray()).map(({ name }) => String(name)).toSorted();
      const wanted = ['_id_', 'minibatch_due', 'minibatch_sweep'];
      const present = (await connection.db!.listCollections().toArray()).map(({ name }) => name);
      expect(present, 'made for those who have no state').not.toContain('state');
      await (await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]))).settle();
      expect(await names()).toEqual(wanted);
      await states().drop();
      await connection.collection('stream').deleteMany({});
      await store.ensureStream('flights');
      expect(await names()).toEqual(wanted);
    });
  });

  describe('of a consumer that goes', () => {
    it('append what is decided, and leave no rows', async () => {
      const { store } = test;
      await (await commit(store, lease, new Map([[1, { put: [row('a', 1)], append: [output(1)] }]]))).settle();
      await commit(store, lease, new Map([[2, { put: [row('a', 2)], append: [output(2)] }]]));
      await store.removeGroup('flights', 'default');
      expect([await rowsOf(store), await dataOf(store, TARGET)]).toEqual([{}, [1, 2]]);
      expect(await states().countDocuments({ value: { $exists: true } })).toBe(0);
      expect(await consumer()).not.toHaveProperty('stateId');
      expect(await consumer()).not.toHaveProperty('effects');
    });

    it('append what is decided also when the stream is dropped', async () => {
      const { store } = test;
      await commit(store, lease, new Map([[1, { put: [row('a', 1)], append: [output(1)] }]]));
      await store.dropStream('flights');
      expect(await dataOf(store, TARGET)).toEqual([1]);
      expect(await states().countDocuments({ value: { $exists: true } })).toBe(0);
    });

    it('are removed by a later sweep where a former holder has written them since', async () => {
      const { store } = test;
      const { settle: settled } = await commit(store, lease, new Map([[1, { put: [row('a', 1)], remove: ['b'] }]]));
      await store.removeGroup('flights', 'default');
      await settled();
      await store.registerGroup(KEY);
      expect(await rowsOf(store)).toEqual({});
      expect(await states().countDocuments()).toBe(3);
      await store.sweep('flights', LATER);
      expect(await states().countDocuments()).toBe(3);
      await states().updateMany({ settled: { $exists: true } }, { $set: { settled: new Date(Date.now() - 2 * DAY) } });
      const next = await another();
      await takeOver(next);
      await commit(next, await takeOver(next), new Map([[1, { put: [row('c', 1)] }]])).then((each) => each.settle());
      await next.sweep('flights', LATER);
      expect(await states().countDocuments()).toBe(1);
      expect(await rowsOf(next)).toEqual({ c: 1 });
    });

    it('go when a removal that was interrupted is followed by a registration', async () => {
      const { store } = test;
      await (await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]))).settle();
      await consumers().updateOne(
        { _id: 'flights/default/0' },
        { $set: { retired: true }, $inc: { 'lease.fence': 1 } },
      );
      await store.registerGroup(KEY);
      expect(await rowsOf(await another())).toEqual({});
      expect(await states().countDocuments({ value: { $exists: true } })).toBe(0);
    });

    it('stay with the group that takes its place, whatever is removed afterwards', async () => {
      const { store } = test;
      await (await commit(store, lease, new Map([[1, { put: [row('a', 1)] }]]))).settle();
      await commit(store, lease, new Map([[2, { put: [row('b', 2)], append: [output(2)] }]]));
      const heir = keyOf('flights', 'new');
      await store.registerGroup(heir, { replaces: 'default' });
      expect(await rowsOf(store, heir)).toEqual({ a: 1 });
      await store.registerGroup(KEY);
      await store.removeGroup('flights', 'default');
      const next = await takeLease(store, heir, RIVAL);
      const { finished, groups } = await store.recover(next);
      expect(finished).toHaveLength(1);
      await settle(store, next, finished, groups);
      expect([await rowsOf(store, heir), await dataOf(store, TARGET)]).toEqual([{ a: 1, b: 2 }, [2]]);
    });
  });

  it('leave traces of removed rows for a day', async () => {
    const { store } = test;
    await (await commit(store, lease, new Map([[1, { put: [row('a', 1), row('b', 1)], remove: ['c'] }]]))).settle();
    await (await commit(store, lease, new Map([[2, { remove: ['a'] }]]))).settle();
    await states().updateOne({ _id: /c$/ } as object, { $set: { settled: new Date(Date.now() - 2 * DAY) } });
    expect(await states().countDocuments()).toBe(3);
    await store.sweep('flights', LATER);
    expect((await states().find().toArray()).map(({ _id }) => String(_id).slice(24)).toSorted()).toEqual(['a', 'b']);
    expect(await rowsOf(store)).toEqual({ b: 1 });
  });
});
