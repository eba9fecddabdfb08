import type { mongo } from 'mongoose';
import { describe, expect, it } from 'vitest';
import { appendAll, keyOf, messageOf, useStore } from '../../../../../test/support/mongoose-store.js';
import { whereSupported } from '../../../../../test/support/server-differences.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { waiting as waitingFor } from './blocks.js';
import { MESSAGES } from './foreign.js';
import { MongooseStreamStore } from './mongoose.store.js';

describe('indexes', () => {
  const test = useStore();

  const names = async (collection: string) =>
    (await test.connection.collection(collection).listIndexes().toArray()).map(({ name }) => String(name)).toSorted();

  it('are named after the queries they serve, next to those of Python', async () => {
    expect(await names('stream')).toEqual(['_id_', 'name_1']);
    expect(await names('buffer')).toEqual([
      '_id_',
      'minibatch_dedupe',
      'minibatch_done',
      'minibatch_redrive',
      'minibatch_replay',
      'minibatch_sweep',
      'minibatch_waiting',
    ]);
    expect(await names('window')).toEqual(['_id_', 'minibatch_open_windows', 'minibatch_sweep']);
    expect(await names('deadletter')).toEqual(['_id_', 'minibatch_dead_letters']);
    const { connection } = test;
    await connection.collection('stream').createIndexes([{ name: 'name_1', key: { name: 1 }, unique: true }]);
    await connection.collection('stream').createIndexes([{ name: 'created_1', key: { created: 1 } }]);
    for (const collection of ['buffer', 'window']) {
      await connection.collection(collection).createIndexes([{ name: 'created_1', key: { created: 1 } }]);
      await connection.collection(collection).createIndexes([{ name: 'stream_1', key: { stream: 1 } }]);
    }
    await new MongooseStreamStore(connection).open();
    expect(await names('stream')).toEqual(['_id_', 'created_1', 'name_1']);
  });

  it('are found when they exist already, no matter who made them', async () => {
    test.commands();
    await new MongooseStreamStore(test.connection).open();
    expect(test.commands()).not.toContain('createIndexes');
  });

  it('of an earlier version are dropped', async () => {
    const buffer = test.connection.collection('buffer');
    await buffer.createIndexes([{ name: 'minibatch_fetch', key: { stream: 1, processed: 1, _id: 1 } }]);
    const byTime = { stream: 1, processed: 1, waits: 1, created: 1, _id: 1 } as const;
    await buffer.createIndexes([{ name: 'minibatch_waiting_by_time', key: byTime }]);
    await new MongooseStreamStore(test.connection).open();
    expect(await names('buffer')).not.toContain('minibatch_fetch');
    expect(await names('buffer')).not.toContain('minibatch_waiting_by_time');
  });

  it('by time is made for the first consumer that reads by time', async () => {
    await test.store.registerGroup(keyOf('flights'));
    expect(await names('buffer')).not.toContain('minibatch_waiting_in_partition_by_time');
    await test.store.registerGroup(keyOf('flights', 'timed'), { timeOrder: true });
    expect(await names('buffer')).toContain('minibatch_waiting_in_partition_by_time');
  });

  whereSupported('indexes', () => {
    it('by time is read for one partition alone', async () => {
      const { store, connection } = test;
      await store.ensureStream('flights', { partitions: 8 });
      await store.registerGroup(keyOf('flights'), { timeOrder: true });
      const messages = Array.from({ length: 800 }, (_, i) =>
        messageOf('flights', i, { partition: i % 8, created: new Date(i) }),
      );
      await appendAll(store, messages);
      const buffer = connection.collection('buffer');
      for (const partition of [0, 5]) {
        const waiting = waitingFor(keyOf('flights', 'default', partition)) as mongo.Filter<mongo.Document>;
        const found = buffer.find({ ...waiting, created: { $gte: new Date(80) } }).sort({ created: 1, _id: 1 });
        const { totalDocsExamined } = (await found.limit(10).explain('executionStats'))['executionStats'];
        expect(totalDocsExamined).toBeLessThanOrEqual(20);
      }
    });
  });

  whereSupported('indexes', () => {
    it('that stand in the way are named', async () => {
      const { connection } = test;
      await connection.collection('buffer').dropIndex('minibatch_dedupe');
      await connection.collection('buffer').createIndexes([{ name: 'minibatch_dedupe', key: { dedupeKey: 1 } }]);
      const conflict = { code: ErrorCode.ModelConflict };
      await expect(new MongooseStreamStore(connection).open()).rejects.toMatchObject(conflict);
    });
  });

  whereSupported('indexes', () => {
    it.each([
      ['of all messages', {}],
      ['in spite of foreign documents', { $and: [MESSAGES as mongo.Filter<mongo.Document>] }],
    ])('are used by the reads %s', async (_, more) => {
      const { store, connection } = test;
      await store.registerGroup(keyOf('flights'), { timeOrder: true });
      await appendAll(
        store,
        Array.from({ length: 100 }, (_, i) => messageOf('flights', i)),
      );
      const buffer = connection.collection('buffer');
      const waiting = waitingFor(keyOf('flights')) as mongo.Filter<mongo.Document>;
      const plan = async (find: ReturnType<typeof buffer.find>) =>
        JSON.stringify((await find.explain())['queryPlanner']);
      const asked = { ...waiting, ...more };
      const byId = await plan(buffer.find(asked).sort({ _id: 1 }).limit(10));
      expect(byId).toContain('minibatch_waiting');
      expect(byId).not.toContain('"SORT"');
      const recent = { ...asked, created: { $gte: new Date(0) } };
      const byTime = await plan(buffer.find(recent).sort({ created: 1, _id: 1 }).limit(10));
      expect(byTime).toContain('minibatch_waiting_in_partition_by_time');
      expect(byTime).not.toContain('"SORT"');
    });
  });
});
