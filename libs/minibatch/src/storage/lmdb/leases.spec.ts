import { describe, expect, it } from 'vitest';
import { LmdbEnvironment } from './environment.js';
import { Kind, prefixRange } from './keys.js';
import { hold, key, OWNER, useLmdb } from './lmdb.spec.support.js';
import { decodeConsumer, encodeRecord } from './records.js';

const HEIR = { ...OWNER, id: 'heir' };
const OTHER = { ...OWNER, id: 'other' };

describe('a lease that is asked for, where a version runs that knows no heirs', () => {
  const test = useLmdb();

  /** As that version acquires it: it changes what it knows, and writes the rest as it was. */
  async function acquireByOlderVersion(): Promise<void> {
    const environment = await LmdbEnvironment.open(test.path, 126, 0o600);
    try {
      await environment.write((view) => {
        const [entry] = [...view.entries(prefixRange(Buffer.from([Kind.Consumer])))];
        const { holdTime: _, ...rest } = decodeConsumer(entry!.value, '');
        const { fence, counter } = rest;
        view.put(entry!.key, encodeRecord({ ...rest, owner: OTHER, fence: fence + 1, counter: counter + 1 }));
      });
    } finally {
      await environment.close();
    }
  }

  it('has no heir once that version has it', async () => {
    const store = await test.open();
    await hold(store);
    const [held] = await store.readLeases([key()]);
    expect(await store.requestLease(key(), HEIR, held!)).toBe(true);
    await acquireByOlderVersion();
    const [taken] = await store.readLeases([key()]);
    expect(taken).toMatchObject({ owner: OTHER, fence: 2 });
    expect(taken).not.toHaveProperty('heir');
    expect(await store.renewLeases([{ key: key(), owner: OTHER, fence: 2 }])).toEqual([]);
    // It can be asked of it, too, though that one does not see it.
    expect(await store.requestLease(key(), OWNER, taken!)).toBe(true);
    expect((await store.readLeases([key()]))[0]).toMatchObject({ owner: OTHER, heir: OWNER });
  });
});
