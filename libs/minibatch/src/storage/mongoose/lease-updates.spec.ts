import type { mongo } from 'mongoose';
import { describe, expect, it } from 'vitest';
import { failCommands } from '../../../../../test/support/fail-points.js';
import { openDatabase } from '../../../../../test/support/mongo-server.js';
import { keyOf, openStore, OWNER, useStore } from '../../../../../test/support/mongoose-store.js';
import { startReplicaSet } from '../../../../../scripts/servers/mongo/mongo.mjs';
import type { Lease, StreamStore } from '../stream-store.interface.js';

const KEYS = Array.from({ length: 20 }, (_, n) => keyOf(`stream-${n}`));

async function takeAll(store: StreamStore): Promise<readonly Lease[]> {
  await Promise.all(KEYS.map(({ stream }) => store.ensureStream(stream)));
  await Promise.all(KEYS.map((key) => store.registerGroup(key)));
  const states = await store.readLeases(KEYS);
  const taken = await Promise.all(KEYS.map((key, index) => store.acquireLease(key, OWNER, states[index]!)));
  return taken.map((lease) => lease!);
}

const counters = async (store: StreamStore) => (await store.readLeases(KEYS)).map(({ counter }) => counter);
/** Released and acquired again: it has another fence than the others. */
const takenAgain = async (store: StreamStore, lease: Lease) => {
  await store.releaseLease(lease);
  const [state] = await store.readLeases([lease.key]);
  return (await store.acquireLease(lease.key, OWNER, state!))!;
};

describe('leases of one process', () => {
  const test = useStore();

  const statements = async (work: () => Promise<unknown>) => {
    const sent: number[] = [];
    // Streams that are not there are made by upserts, each for itself.
    const isUpsert = (update: { readonly upsert?: boolean }) => update.upsert === true;
    const count = ({ command }: mongo.CommandStartedEvent) => {
      const { updates } = command as { updates?: readonly { readonly upsert?: boolean }[] };
      if (updates && !updates.every(isUpsert)) sent.push(updates.length);
    };
    const client = test.connection.getClient();
    client.on('commandStarted', count);
    await work();
    client.off('commandStarted', count);
    return sent;
  };

  it('are acquired, renewed and released by one statement each, and by one more for each other fence', async () => {
    const { store } = test;
    let leases: readonly Lease[] = [];
    // The group is added to all streams by one statement, too.
    expect(await statements(async () => void (leases = await takeAll(store)))).toEqual([1, 1]);
    // The second statement looks whether any of them is asked for.
    expect(await statements(() => store.renewLeases(leases))).toEqual([2]);
    leases = [await takenAgain(store, leases[0]!), ...leases.slice(1)];
    const before = await counters(store);
    expect(await statements(() => store.renewLeases(leases))).toEqual([3]);
    expect(await counters(store)).toEqual(before.map((counter) => counter + 1));
    expect(await statements(() => Promise.all(leases.map((lease) => store.releaseLease(lease))))).toEqual([2]);
    for (const { owner } of await store.readLeases(KEYS)) expect(owner).toBeUndefined();
  });

  it('tell which of them another process has taken', async () => {
    const { store, connection } = test;
    const leases = await takeAll(store);
    const consumers = connection.collection('consumer');
    const taken = { $set: { 'lease.owner': { ...OWNER, id: 'other' } }, $inc: { 'lease.fence': 1 } };
    await consumers.updateMany({ stream: { $in: ['stream-3', 'stream-7'] } }, taken);
    expect(await store.renewLeases(leases)).toEqual([leases[3], leases[7]]);
  });

  it('are renewed but for one whose document refuses it', async () => {
    const { store, connection } = test;
    const leases = await takeAll(store);
    const before = await counters(store);
    await connection
      .collection('consumer')
      .updateOne({ stream: 'stream-0' }, { $set: { 'lease.counter': 'no number' } });
    await expect(store.renewLeases(leases)).rejects.toThrow();
    // More than once, perhaps: what comes before the failure has been renewed already.
    for (const [n, counter] of (await counters(store)).entries()) {
      if (n > 0) expect(counter).toBeGreaterThan(before[n]!);
    }
  });
});

it('leases are renewed though the connection breaks', async () => {
  const server = await startReplicaSet();
  const test = await openStore({ database: openDatabase(server.uri) });
  const { store, connection } = test;
  const leases = await takeAll(store);
  await failCommands({ connection, times: 1 }, { failCommands: ['update'], closeConnection: true });
  expect(await store.renewLeases(leases)).toEqual([]);
  await test.dispose();
  await server.stop();
});
