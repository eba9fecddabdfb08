import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import {
  claimAndCommit,
  finish,
  hold,
  key,
  message,
  numbers,
  read,
  readAllKept,
  register,
  STREAM,
} from '../../testing/store-contract/fixtures.js';
import type { PostgresStreamStore } from './postgres.store.js';

describe('settle on PostgreSQL', () => {
  let schema: TestSchema;
  let store: PostgresStreamStore;
  beforeEach(async () => {
    schema = openSchema();
    store = schema.store();
    await store.open();
  });
  afterEach(async () => {
    await store.close();
    await schema.dispose();
  });

  const buffered = async () => (await store.stats([STREAM]))[0]?.buffered;
  const marks = async () => (await schema.query<{ n: number }>('select count(*)::int as n from minibatch.done'))[0]?.n;

  it.each([false, true])(
    'removes what a process has marked that ended before it looked again; kept: %s',
    async (keep) => {
      await register(store, 'a', 'b');
      await store.append([...numbers(3), message({ n: 3 }, { dedupeId: 'd' })]);
      await finish(store, await hold(store, key('b'), 'b'), 1, await read(store, key('b')));
      const first = await hold(store, key('a'));
      await claimAndCommit(store, first, 1, await read(store, key('a')));
      // The first of the two statements of `settle`.
      await schema.query(
        `insert into minibatch.done (stream, partition, id, grp, kept) select stream, partition, id, 'a', ${keep} from minibatch.message`,
      );
      const lease = await hold(store, key('a'), 'next');
      const { finished, groups } = await store.recover(lease);
      expect(finished).toHaveLength(1);
      const [window] = finished;
      const messages = await store.load(key('a'), window!.messageIds);
      expect(messages).toEqual([]);
      await store.settle(lease, [{ window: window!, messages }], { groups, keep });
      expect([await buffered(), await marks()]).toEqual([0, 0]);
      expect((await readAllKept(store)).length).toBe(keep ? 4 : 0);
      expect(await store.append([message({}, { dedupeId: 'd' })])).toEqual([{ status: 'duplicate' }]);
      expect((await store.recover(lease)).finished).toEqual([]);
    },
  );

  it('leaves nothing when groups settle the same messages at the same time', async () => {
    const groups = ['a', 'b', 'c'];
    await register(store, ...groups);
    for (let round = 1; round <= 10; round += 1) {
      await store.append(numbers(20));
      const committed = await Promise.all(
        groups.map(async (group) => {
          const lease = await hold(store, key(group), group);
          const messages = await read(store, key(group));
          return { lease, messages, ...(await claimAndCommit(store, lease, round, messages)) };
        }),
      );
      await Promise.all(
        committed.map(({ lease, window, messages, groups: all }) =>
          store.settle(lease, [{ window, messages }], { groups: all, keep: false }),
        ),
      );
      expect([await buffered(), await marks()]).toEqual([0, 0]);
    }
  });

  it('removes with the next sweep what was left when a process ended while it removed a group', async () => {
    await register(store, 'a', 'b');
    await store.append(numbers(3));
    await finish(store, await hold(store, key('a')), 1, await read(store, key('a')));
    // As `removeGroup` does, without what follows its transaction.
    await schema.query(`update minibatch.stream set groups = '{a}'; delete from minibatch.consumer where grp = 'b'`);
    expect(await buffered()).toBe(3);
    await store.sweep(STREAM, {});
    expect([await buffered(), await marks()]).toEqual([0, 0]);
  });
});
