/** A lease as a candidate counts it. */
export interface Holding {
  /** The consumer's id. */
  readonly id: string;
  /** Whose it counts as: the process that asks for it, or else its owner. */
  readonly holder: string;
  /** It was asked for, and its owner has not given it back: it costs nothing to ask for it instead. */
  readonly isRequested: boolean;
  /** Another process owns it, which would give it back. */
  readonly isMovable: boolean;
  /** Whoever owns it. */
  readonly owner?: string;
  /** This process asked for it, and its owner has not given it back in the time that a hand-over takes. */
  readonly isStuck?: boolean;
}

export interface Moves {
  /** Leases to ask for. */
  readonly ask: readonly string[];
  /** Leases to ask for no longer. */
  readonly withdraw: readonly string[];
}

/** A process gives one up to another that has two fewer: with one fewer, they would only change places. */
const WORTH_MOVING = 2;

/**
 * What a process asks for, and what it stops asking for. A lease that is stuck would leave it idle, perhaps for hours, while others could
 * move: if there are such, it asks for those instead. If there are none, its request stays. Only leases that are not known to be stuck
 * are asked for instead, so the exchanges come to an end.
 */
export function fairMoves(holdings: readonly Holding[], me: string, most: number, othersAsk: boolean): Moves {
  const stuck = holdings.filter(({ holder, owner, isStuck }) => isStuck && holder === me && owner !== me);
  if (stuck.length > 0) {
    const withoutStuck = holdings.map((each) =>
      each.isStuck ? { ...each, holder: (each.holder === me && each.owner) || each.holder, isMovable: false } : each,
    );
    const ask = fairRequests(withoutStuck, me, most, othersAsk);
    // One at a time: what was asked for drains, whether it is withdrawn or not, and nothing takes its place before it has.
    if (ask.length > 0) return { ask: ask.slice(0, 1), withdraw: stuck.slice(0, 1).map(({ id }) => id) };
  }
  return { ask: fairRequests(holdings, me, most, othersAsk), withdraw: [] };
}

/**
 * Which leases a process asks for, so that all processes have as many as each other, or one more. Each move takes from whoever has
 * most. Processes that see the same come to the same moves, so that no two ask for the same lease.
 *
 * @param most leases that the process takes
 * @param othersAsk processes that have fewer are expected to ask for their share themselves. Not all do: they may not run these consumers,
 *   or be of a version that never asks
 */
export function fairRequests(
  holdings: readonly Holding[],
  me: string,
  most: number,
  othersAsk: boolean,
): readonly string[] {
  const shares = sharesOf(holdings, me);
  const requests: string[] = [];
  for (;;) {
    const ranked = [...shares.values()].sort((a, b) => a.count - b.count || (a.holder < b.holder ? -1 : 1));
    const poorest = othersAsk ? ranked[0] : shares.get(me);
    const richest = ranked.findLast(({ holder, movable }) => holder !== me && movable.length > 0);
    if (!poorest || !richest || richest.count - poorest.count < WORTH_MOVING) return requests;
    const isMine = poorest.holder === me;
    if (isMine && poorest.count >= most) return requests;
    const moved = richest.movable.shift();
    richest.count -= 1;
    poorest.count += 1;
    if (isMine && moved) requests.push(moved.id);
  }
}

/**
 * Which leases of processes that died this process takes: each goes to the process that has fewest. Processes that see the same come to
 * the same result: they do not compete for one lease, and none takes more than its share, to hand it over afterwards.
 *
 * @param orphans consumers whose leases they are
 * @param holders of the other leases, one each
 * @param most leases that the process takes
 */
export function fairTakes(
  orphans: readonly string[],
  holders: readonly string[],
  me: string,
  most: number,
): ReadonlySet<string> {
  const counts = new Map([[me, 0]]);
  for (const holder of holders) counts.set(holder, (counts.get(holder) ?? 0) + 1);
  const mine = new Set<string>();
  for (const id of orphans.toSorted()) {
    const [poorest] = [...counts]
      .filter(([holder, count]) => holder !== me || count < most)
      .toSorted(([a, has], [b, hasToo]) => has - hasToo || (a < b ? -1 : 1));
    if (!poorest) break;
    const [holder, count] = poorest;
    counts.set(holder, count + 1);
    if (holder === me) mine.add(id);
  }
  return mine;
}

interface Share {
  readonly holder: string;
  count: number;
  /** Those that are easiest to move first. */
  readonly movable: Holding[];
}

function sharesOf(holdings: readonly Holding[], me: string): ReadonlyMap<string, Share> {
  const shares = new Map<string, Share>([[me, { holder: me, count: 0, movable: [] }]]);
  const inOrder = [...holdings].sort((a, b) => effort(a) - effort(b) || (a.id < b.id ? -1 : 1));
  for (const each of inOrder) {
    const { holder } = each;
    const share = shares.get(holder) ?? { holder, count: 0, movable: [] };
    share.count += 1;
    if (each.isMovable) share.movable.push(each);
    shares.set(holder, share);
  }
  return shares;
}

/** Of moving it. One that is stuck comes last. */
function effort({ isRequested, isStuck }: Holding): number {
  return (isStuck ? 2 : 0) + (isRequested ? 0 : 1);
}
