import { describe, expect, it } from 'vitest';
import {
  appendAll,
  keyOf,
  messageOf,
  useStore,
  OWNER,
  RIVAL,
  takeLease,
  windowOf,
} from '../../../../../test/support/mongoose-store.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { ClaimLocations } from './claim-locations.js';
import { GroupListVersions } from './group-list-versions.js';
import { Claims } from './claims.js';
import { Indexes } from './indexes.js';
import { MarkDelay } from './mark-delay.js';
import { stateRoles } from './state-roles.js';
import { Collections, collectionNames } from './collections.js';

const KEY = keyOf('flights');

describe('the adoption of windows', () => {
  const test = useStore();

  /** Claims whose recovery is interrupted after it has written to the collection of windows by that method. */
  function interrupted(method: 'deleteMany' | 'updateMany', interrupt: () => Promise<void>): Claims {
    const collections = new Collections(test.connection, collectionNames());
    const window = new Proxy(collections.window, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        if (name !== method) return value.bind(target) as unknown;
        return async (...args: unknown[]) => {
          const answer = (await Reflect.apply(value, target, args)) as unknown;
          await interrupt();
          return answer;
        };
      },
    });
    return new Claims(
      Object.create(collections, { window: { value: window } }) as Collections,
      new ClaimLocations(),
      new GroupListVersions(),
      new MarkDelay(),
      stateRoles(collections, new Indexes(collections), (messages) => test.store.append(messages)).effects,
    );
  }

  it.each(['deleteMany', 'updateMany'] as const)(
    'leaves a claim void that a holder from before the last adoption makes after its %s',
    async (method) => {
      const { store } = test;
      const ids = await appendAll(store, [messageOf('flights', 1), messageOf('flights', 2)]);
      const sleeper = await takeLease(store, KEY);
      await store.recover(sleeper);
      const second = await takeLease(store, KEY, RIVAL);
      await store.recover(second);
      await store.claim(second, [windowOf(1, ids.slice(0, 1))]);
      const third = await takeLease(store, KEY, { ...OWNER, id: 'owner-3' });
      let interrupts = 0;
      const claims = interrupted(method, async () => {
        interrupts += 1;
        await store.claim(sleeper, [windowOf(2, ids.slice(1))]);
      });
      const seqs = ({ open }: Awaited<ReturnType<Claims['recover']>>) => open.map(({ seq }) => seq);
      expect(seqs(await claims.recover(third))).toEqual([1]);
      expect(interrupts).toBe(1);
      expect(seqs(await store.recover(third))).toEqual([1]);
      expect(seqs(await store.recover(await takeLease(store, KEY, RIVAL)))).toEqual([1]);
    },
  );
});

describe('groups of one process that claim in the same turn', () => {
  const test = useStore();

  it('send one command', async () => {
    const leases = [await takeLease(test.store, KEY), await takeLease(test.store, keyOf('flights', 'audit'))];
    test.commands();
    await Promise.all(leases.map((lease) => test.store.claim(lease, [windowOf(1, []), windowOf(2, [])])));
    expect(test.commands()).toEqual(['insert']);
    for (const lease of leases) {
      expect((await test.store.recover(lease)).open.map(({ seq }) => seq)).toEqual([1, 2]);
    }
  });

  it('fail each by its own fault', async () => {
    const good = await takeLease(test.store, KEY);
    const bad = await takeLease(test.store, keyOf('flights', 'audit'));
    const unwritable = {
      toBSON: () => {
        throw new Error('no BSON');
      },
    };
    const claims = await Promise.allSettled([
      test.store.claim(bad, [windowOf(1, [], { start: unwritable as unknown as Date })]),
      test.store.claim(good, [windowOf(1, [])]),
    ]);
    expect(claims).toMatchObject([{ status: 'rejected', reason: { code: ErrorCode.StoreUnavailable } }, {}]);
    expect(claims[1]).toEqual({ status: 'fulfilled', value: [1] });
    expect((await test.store.recover(good)).open.map(({ seq }) => seq)).toEqual([1]);
    expect((await test.store.recover(bad)).open).toEqual([]);
  });
});
