import { describe, expect, it } from 'vitest';
import { fairMoves, fairRequests, fairTakes, type Holding } from './lease-spread.js';
import { Fleet, names, ROUND } from './fleet.spec.support.js';
import { LEASE } from './process.spec.support.js';

describe('the leases that a process asks for', () => {
  const of = (holder: string, count: number, extra: Partial<Holding> = {}): Holding[] =>
    Array.from({ length: count }, (_, n) => ({
      id: `${holder}${n}`,
      holder,
      isRequested: false,
      isMovable: true,
      ...extra,
    }));

  it.each([
    ['none, if nobody has two more', [...of('a', 1)], []],
    ['none, if nobody has any', [], []],
    ['half of what one has', [...of('a', 4)], ['a0', 'a1']],
    ['its part beside a third', [...of('a', 4), ...of('b', 1)], ['a0']],
    ['from whoever has most', [...of('a', 2), ...of('b', 3)], ['b0']],
    [
      'what is asked for already, since nobody works there yet',
      [...of('a', 4), { ...of('b', 2)[0]!, holder: 'a', isRequested: true }],
      ['b0', 'a0'],
    ],
    ['none that can not be moved', [...of('a', 3, { isMovable: false }), ...of('b', 2)], ['b0']],
    ['none that is its own', [...of('me', 3), ...of('b', 4)], []],
  ] as const)('are %s', (_, holdings, expected) => {
    expect(fairRequests(holdings, 'me', Infinity, true)).toEqual(expected);
  });

  it('are no more than it takes', () => {
    expect(fairRequests([...of('a', 8)], 'me', 3, true)).toEqual(['a0', 'a1', 'a2']);
    expect(fairRequests([...of('a', 8), ...of('me', 3)], 'me', 3, true)).toEqual([]);
  });

  it('are others than those of a process that has as few', () => {
    const holdings = [...of('a', 8), ...of('b', 1), ...of('c', 1)];
    const [b, c] = [fairRequests(holdings, 'b', Infinity, true), fairRequests(holdings, 'c', Infinity, true)];
    expect([...b, ...c].toSorted()).toEqual(['a0', 'a1', 'a2', 'a3']);
    expect([b.length, c.length]).toEqual([2, 2]);
  });

  it('include the share of others if those do not ask', () => {
    const holdings = [...of('a', 6), ...of('z', 1), ...of('b', 1)];
    expect(fairRequests(holdings, 'z', Infinity, true)).toEqual(['a1']);
    expect(fairRequests(holdings, 'z', Infinity, false)).toEqual(['a0', 'a1']);
    expect(fairRequests([...of('b', 1), ...of('a', 3), ...of('z', 1)], 'z', Infinity, true)).toEqual([]);
    expect(fairRequests([...of('b', 1), ...of('a', 3), ...of('z', 1)], 'z', Infinity, false)).toEqual(['a0']);
  });
});

describe('a lease that was asked for and does not move', () => {
  const held = (id: string, owner: string, extra: Partial<Holding> = {}): Holding => ({
    id,
    holder: owner,
    owner,
    isRequested: false,
    isMovable: true,
    ...extra,
  });
  const stuck = (id: string, owner: string): Holding =>
    held(id, owner, { holder: 'me', isRequested: true, isStuck: true });
  const known = (id: string, owner: string): Holding => held(id, owner, { isStuck: true });

  it.each([
    ['is exchanged for one that can', [stuck('a0', 'a'), held('a1', 'a')], ['a1'], ['a0']],
    ['is exchanged for one of another process', [stuck('a0', 'a'), held('b0', 'b'), held('b1', 'b')], ['b0'], ['a0']],
    ['stays asked for if there is no other', [stuck('a0', 'a'), known('a1', 'a')], [], []],
    ['stays asked for if nobody has too many of the others', [stuck('a0', 'a'), held('b0', 'b')], [], []],
    [
      'is exchanged as far as others can move',
      [stuck('a0', 'a'), stuck('a1', 'a'), held('a2', 'a'), known('a3', 'a')],
      ['a2'],
      ['a0'],
    ],
    [
      'is exchanged one by one: each that is asked for stops being worked for',
      [stuck('a0', 'a'), stuck('a1', 'a'), held('a2', 'a'), held('a3', 'a'), held('a4', 'a'), held('a5', 'a')],
      ['a2'],
      ['a0'],
    ],
    ['is asked for again when only such are left', [known('a0', 'a'), known('a1', 'a')], ['a0'], []],
    ['is asked for last', [known('a0', 'a'), held('a1', 'a'), held('a2', 'a')], ['a1'], []],
    ['is no reason to ask for more than a share', [stuck('a0', 'a'), held('a1', 'a'), held('m', 'me')], [], []],
  ] as const)('%s', (_, holdings, ask, withdraw) => {
    expect(fairMoves(holdings, 'me', Infinity, true)).toEqual({ ask, withdraw });
  });
});

describe('the leases of a fleet', () => {
  const sizes = [1, 2, 3, 4, 5, 6, 7, 8];
  it.each(sizes.flatMap((replicas) => [1, 4, 7, 16].map((consumers) => [replicas, consumers] as const)))(
    'of %d replicas that start together are spread fairly within a lease time, and then stay: %d consumers',
    async (replicas, consumers) => {
      const fleet = new Fleet(names(consumers));
      await fleet.joinMany(replicas);
      expect(await fleet.comesTo(() => fleet.isFair), fleet.shares.join(' ')).toBe(true);
      // Requests that are no longer needed may still be carried out.
      await fleet.pass(LEASE);
      const before = await fleet.fences();
      await fleet.pass(50 * ROUND);
      expect(fleet.isFair, fleet.shares.join(' ')).toBe(true);
      expect(await fleet.fences()).toEqual(before);
      expect((await fleet.leases()).map(({ heir }) => heir)).toEqual(before.map(() => undefined));
      await fleet.stopAll();
    },
  );

  it.each([
    [3, 4],
    [3, 7],
    [4, 16],
    [5, 7],
    [6, 16],
    [8, 16],
  ])('of %d replicas change hands once when one of them dies: %d consumers', async (replicas, consumers) => {
    const fleet = new Fleet(names(consumers));
    await fleet.joinMany(replicas);
    expect(await fleet.comesTo(() => fleet.isFair), fleet.shares.join(' ')).toBe(true);
    await fleet.pass(LEASE);
    const before = await fleet.leases();
    const left = fleet.shares[0]!;
    fleet.kill(fleet.members[0]!);
    expect(await fleet.comesTo(() => fleet.isFair, LEASE + 2 * ROUND), fleet.shares.join(' ')).toBe(true);
    await fleet.pass(2 * LEASE);
    const moves = (await fleet.leases()).map(({ fence }, index) => fence - before[index]!.fence);
    expect(moves.toSorted()).toEqual([
      ...Array.from({ length: consumers - left }, () => 0),
      ...Array.from({ length: left }, () => 1),
    ]);
    await fleet.stopAll();
  });

  it('of one that died do not wait for a replica that does not run their consumers', async () => {
    const fleet = new Fleet(names(5));
    // By its share it would be the one to take what is left.
    await fleet.join({}, ['g4']);
    await fleet.pass(ROUND);
    const dying = await fleet.join();
    await fleet.pass(ROUND);
    const other = await fleet.join();
    expect(await fleet.comesTo(() => fleet.shares[2]! > 0, 2 * LEASE), fleet.shares.join(' ')).toBe(true);
    fleet.kill(dying);
    const isTakenOver = () => fleet.shares.join() === '1,4';
    expect(await fleet.comesTo(isTakenOver, LEASE + 3 * ROUND), fleet.shares.join(' ')).toBe(true);
    expect(other.logged).toEqual([]);
    await fleet.stopAll();
  });
});

describe('a share of the leases of processes that died', () => {
  it.each([
    ['is all if there is no other process', ['x', 'y'], [], Infinity, ['x', 'y']],
    ['goes to the process that has fewest', ['x', 'y'], ['a', 'a', 'me'], Infinity, ['x']],
    ['goes by name where two have as many', ['x', 'y'], ['a', 'me'], Infinity, ['y']],
    ['is nothing for the one that has most', ['x'], ['a', 'me', 'me'], Infinity, []],
    ['is no more than the process takes', ['x', 'y', 'z'], ['a', 'a', 'me'], 2, ['x']],
    ['is nothing for a process that has all that it takes', ['x'], ['me'], 1, []],
  ] as const)('%s', (_, orphans, holders, most, mine) => {
    expect([...fairTakes(orphans, holders, 'me', most)]).toEqual(mine);
  });
});
