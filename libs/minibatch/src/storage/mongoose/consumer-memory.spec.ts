import { describe, expect, it } from 'vitest';
import { appendAll, keyOf, messageOf, RIVAL, takeLease, useStore } from '../../../../../test/support/mongoose-store.js';
import { ClaimLocations } from './claim-locations.js';
import { ConsumerMemory } from './consumer-memory.js';
import { DecidedEffects } from './decided-effects.js';
import { GroupListVersions } from './group-list-versions.js';
import { MarkDelay } from './mark-delay.js';
import { SharedReads } from './shared-reads.js';
import type { BufferPages } from './blocks.js';

const KEY = keyOf('flights');
const AUDIT = keyOf('flights', 'audit');

describe('a consumer that gives its lease back', () => {
  const test = useStore();

  it('leaves nothing of what was remembered for it', () => {
    const parts = [new ClaimLocations(), new GroupListVersions(), new MarkDelay()] as const;
    const [locations, versions, markDelay] = parts;
    const decided = new DecidedEffects();
    const reads = new SharedReads({} as BufferPages, versions);
    const memory = new ConsumerMemory(locations, versions, markDelay, reads, decided);
    const [lease, other] = [KEY, AUDIT].map((key) => ({ key, owner: RIVAL, fence: 1 }));
    for (const each of [lease!, other!]) {
      locations.put(each, 'document', [1], true);
      versions.committed(each.key, 7);
      markDelay.claimed(each.key);
      decided.begin(each, {});
    }
    const known = () => [
      [lease!, other!].map((each) => locations.has(each, 1)),
      [KEY, AUDIT].map((key) => versions.atCommit(key)),
      [KEY, AUDIT].map(({ group }) => markDelay.delay(keyOf('flights', 'c'), [group]) > 0),
      [KEY, AUDIT].map((key) => decided.stateOf(key) === null),
    ];
    expect(known()).toEqual([
      [true, true],
      [7, 7],
      [true, true],
      [true, true],
    ]);
    memory.forget(lease!);
    expect(known()).toEqual([
      [false, true],
      [undefined, 7],
      [false, true],
      [false, true],
    ]);
    expect(versions.current('flights')).toBeUndefined();
  });

  it('leaves no block that was kept for it', async () => {
    const { store, commands } = test;
    const leases = [await takeLease(store, KEY), await takeLease(store, AUDIT)];
    await appendAll(
      store,
      [0, 1, 2, 3, 4, 5, 6].map((n) => messageOf('flights', n)),
    );
    const fetch = (key: typeof KEY, after?: string) => store.fetch(key, after, { messages: 2, bytes: 2 ** 24 });
    const [{ messages }] = await Promise.all([fetch(KEY), fetch(AUDIT)]);
    await fetch(KEY, messages.at(-1)?.id);
    await store.releaseLease(leases[1]!);
    commands();
    await fetch(AUDIT, messages.at(-1)?.id);
    expect(commands()).toEqual(['find']);
  });
});
