import { describe, expect, it } from 'vitest';
import { keyOf, takeLease, useStore } from '../../../../../test/support/mongoose-store.js';

const KEY = keyOf('flights');
const ownerOf = (id: string) => ({ id, host: 'here', bootId: 'boot', pid: 1, startTime: '1' });

describe('a lease that is asked for', () => {
  const test = useStore();

  it('has no heir once a version has it that knows none', async () => {
    const { store, connection } = test;
    await takeLease(store, KEY);
    const [held] = await store.readLeases([KEY]);
    expect(await store.requestLease(KEY, ownerOf('heir'), held!)).toBe(true);
    await connection
      .collection('consumer')
      .updateOne(
        { stream: 'flights' },
        { $set: { 'lease.owner': ownerOf('other') }, $inc: { 'lease.fence': 1, 'lease.counter': 1 } },
      );
    const [taken] = await store.readLeases([KEY]);
    expect(taken).toMatchObject({ owner: ownerOf('other'), fence: held!.fence + 1 });
    expect(taken).not.toHaveProperty('heir');
    expect(await store.renewLeases([{ key: KEY, owner: ownerOf('other'), fence: taken!.fence }])).toEqual([]);
    // It can be asked of it, too, though that one does not see it.
    expect(await store.requestLease(KEY, ownerOf('heir'), taken!)).toBe(true);
    expect((await store.readLeases([KEY]))[0]).toMatchObject({ owner: ownerOf('other'), heir: ownerOf('heir') });
  });

  it('takes no command before it is asked for, and one more for its owner while it is', async () => {
    const { store, commands } = test;
    const leases = [await takeLease(store, KEY), await takeLease(store, keyOf('other'))];
    const [held] = await store.readLeases([KEY]);
    commands();
    expect(await store.renewLeases(leases)).toEqual([]);
    expect(commands()).toEqual(['update']);
    expect(await store.requestLease(KEY, ownerOf('heir'), held!)).toBe(true);
    expect(commands()).toEqual(['update']);
    expect(await store.renewLeases(leases)).toEqual([{ ...leases[0], heir: ownerOf('heir') }]);
    expect(commands()).toEqual(['update', 'find']);
  });
});

describe('a partition that was added to a stream', () => {
  const test = useStore();
  const keys = [0, 1, 2, 3].map((partition) => ({ ...KEY, partition }));

  const grow = async () => {
    const { store, connection } = test;
    await store.registerGroup(KEY);
    await store.updateStream(KEY.stream, { grow: { partitions: 4, at: new Date() } });
    return connection.collection('consumer');
  };

  it('has a consumer though the process that added it died before it made one', async () => {
    const { store } = test;
    const consumers = await grow();
    await consumers.deleteMany({ partition: { $gt: 1 } });
    const states = await store.readLeases(keys);
    expect(states).toEqual(keys.map(() => ({ fence: 0, counter: 0 })));
    expect(await store.acquireLease(keys[3]!, ownerOf('a'), states[3]!)).toMatchObject({ fence: 1 });
  });

  it('has none if its group is not registered, and none once everything was dropped', async () => {
    const { store, connection } = test;
    const consumers = await grow();
    await store.removeGroup(KEY.stream, KEY.group);
    await store.registerGroup(keyOf('flights', 'other'));
    await consumers.deleteMany({ partition: { $gt: 0 }, group: KEY.group });
    await store.readLeases(keys);
    expect(await consumers.countDocuments({ group: KEY.group })).toBe(1);
    await connection.dropDatabase();
    expect(await store.readLeases(keys)).toEqual(keys.map(() => ({ fence: 0, counter: 0, missing: true })));
    expect(await consumers.countDocuments({})).toBe(0);
  });

  it('takes as few commands to add as it takes for one group', async () => {
    const { store, commands } = test;
    await store.registerGroup(KEY);
    const growing = async (partitions: number) => {
      commands();
      await store.updateStream(KEY.stream, { grow: { partitions, at: new Date() } });
      return commands().length;
    };
    const few = await growing(2);
    for (const group of ['a', 'b', 'c']) await store.registerGroup(keyOf('flights', group));
    expect(await growing(64)).toBeLessThanOrEqual(few);
  });
});
