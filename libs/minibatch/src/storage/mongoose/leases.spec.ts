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
