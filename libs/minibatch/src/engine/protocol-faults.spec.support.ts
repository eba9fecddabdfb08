import type { MemoryDatabase } from '../storage/memory/memory.database.js';
import { applyEffects } from '../storage/memory/state.js';
import type {
  ConsumerKey,
  Lease,
  MessageId,
  Recovery,
  StateRow,
  StreamStore,
} from '../storage/stream-store.interface.js';
import { type StoreCall, wrapStore } from '../testing/wrapped-store.js';
import { isLeaseLost } from './lease-keeper.js';
import type { Planted } from './protocol-doubles.spec.support.js';

const around = (
  method: StoreCall['method'],
  instead: (call: StoreCall, store: StreamStore, database: MemoryDatabase) => Promise<unknown>,
): Planted => ({
  store: (store, database) =>
    wrapStore(store, (call) => (call.method === method ? instead(call, store, database) : call.proceed())),
});

/** A check that can't fail says nothing: each of these faults has to be found. */
export const FAULTS: Readonly<Record<string, Planted>> = {
  'messages leave before the commit point': around('commit', async (call, store, database) => {
    const [lease, { finished }] = call.args as Parameters<StreamStore['commit']>;
    const groups = [lease.key.group];
    const windows = database.streams.get(lease.key.stream)?.consumer(lease.key)?.windows;
    const settled = finished.flatMap((seq) => {
      const window = windows?.get(seq);
      return window ? [{ window: { ...window, seq: -1 }, ids: window.messageIds }] : [];
    });
    const present = presentLease(database, lease.key);
    if (present) {
      for (const { window, ids } of settled) {
        const messages = await store.load(lease.key, ids);
        await store.settle(present, [{ window, messages }], { groups, keep: false });
      }
    }
    return call.proceed();
  }),
  'a commit point that does not look at the fence': around('commit', async (call, store, database) => {
    const [lease, commit] = call.args as Parameters<StreamStore['commit']>;
    try {
      return await call.proceed();
    } catch (error) {
      const present = presentLease(database, lease.key);
      if (!isLeaseLost(error) || !present) throw error;
      return store.commit(present, commit);
    }
  }),
  'reads that resume where the last one ended': {
    store: (store) => {
      const cursors = new Map<string, MessageId>();
      return wrapStore(store, async (call) => {
        if (call.method !== 'fetch') return call.method === 'scan' ? [] : call.proceed();
        const [key, after, limits] = call.args as Parameters<StreamStore['fetch']>;
        const block = await store.fetch(key, after ?? cursors.get(key.group), limits);
        const last = block.messages.at(-1);
        if (last) cursors.set(key.group, last.id);
        return block;
      });
    },
  },
  'a recovery that forgets the open windows': around('recover', async (call) => {
    return { ...((await call.proceed()) as Recovery), open: [] };
  }),
  'a recovery that takes finished windows for open ones': around('recover', async (call) => {
    const { finished, open, ...rest } = (await call.proceed()) as Recovery;
    return { ...rest, finished: [], open: [...finished, ...open].sort((a, b) => a.seq - b.seq) };
  }),
  'claims that are not stored': around('claim', () => Promise.resolve()),
  'a poll that sees nothing': around('poll', (call) => Promise.resolve((call.args[0] as unknown[]).map(() => ''))),
  'a commit before the handler is through': { hastyHandler: true },
  'effects before the commit point': around('commit', (call, _store, database) => {
    const [{ key }, { effects }] = call.args as Parameters<StreamStore['commit']>;
    const consumer = database.streams.get(key.stream)?.consumer(key);
    if (consumer && effects) applyEffects(database, consumer, effects);
    return call.proceed();
  }),
  'effects that the next holder does not apply': { late: { forgetsOthers: true } },
  'effects that append a message twice': { late: { withoutIds: true } },
  'rows that are read as they were before the last window': {
    store: (store) => {
      const stale = new Map<string, readonly StateRow[]>();
      return wrapStore(store, async (call) => {
        if (call.method !== 'readState') return call.proceed();
        const [key, slots] = call.args as [ConsumerKey, readonly string[]];
        const name = `${key.group} ${slots.join()}`;
        const rows = (await call.proceed()) as readonly StateRow[];
        const before = stale.get(name) ?? rows;
        stale.set(name, rows);
        return before;
      });
    },
  },
};

/** The lease as stored in the database, no matter who holds it. */
function presentLease(database: MemoryDatabase, key: ConsumerKey): Lease | undefined {
  const consumer = database.streams.get(key.stream)?.consumer(key);
  return consumer?.owner && { key, owner: consumer.owner, fence: consumer.fence };
}
