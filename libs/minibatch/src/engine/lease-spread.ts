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
    if (ask.length > 0) return { ask, withdraw: stuck.slice(0, ask.length).map(({ id }) => id) };
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
