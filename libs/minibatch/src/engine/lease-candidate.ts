import type { Clock } from '../common/clock.js';
import { consumerId } from '../storage/stream-store.interface.js';
import type { LeaseOwner, LeaseState, StreamStore } from '../storage/stream-store.interface.js';
import { fairMoves, fairTakes, type Holding, type Moves } from './lease-spread.js';
import { forget, type LeaseListener, type Watch } from './lease-watch.js';

type IsDead = (owner: LeaseOwner) => boolean;

/**
 * The lease of a process that died is left to the one whose share it is for this part of the lease time: a little more than a candidate
 * takes to look again.
 */
const LEFT_FOR = 1 / 5;
const NONE: ReadonlySet<Watch> = new Set();

/** A lease of another process, or of nobody, as it was read. */
interface Candidate {
  readonly watch: Watch;
  readonly state: LeaseState;
  /** What an acquisition expects. */
  readonly expected: LeaseState;
  /** How long the state has to stay unchanged before the lease is free; milliseconds. */
  readonly freeAfter: number;
}

/** What a candidate shares with the keeper of the leases that it acquires. */
export interface Candidacy {
  readonly watches: ReadonlyMap<string, Watch>;
  readonly store: StreamStore;
  readonly clock: Clock;
  readonly owner: LeaseOwner;
  /** Milliseconds. */
  readonly leaseTime: number;
  /** Leases that this process takes. */
  readonly maxLeases: number;
  /** A lease that was asked for this long ago, and has not moved, is stuck; milliseconds. */
  readonly stuckAfter: number;
  readonly listener: LeaseListener;
}

/** How the keeper takes part in a round. */
export interface CandidateHooks {
  /** The store knows nothing of the consumer. */
  missing(watch: Watch): void;
  /** Who asks for a lease that is held. */
  inherit(watch: Watch, heir: LeaseOwner | undefined): void;
  /** How long the lease may be silent, if it was lengthened. */
  holdTime(watch: Watch, now: number): number | undefined;
}

/** The half of `LeaseKeeper` that watches the leases of other processes: acquires what is free, and asks for its share. */
export class LeaseCandidate {
  /** Leases that may still be taken in this round. */
  private room = 0;
  /** The others were expected to ask for their share in the last round. */
  private othersAsk = false;
  /** The most leases beyond `maxLeases` that were reported. */
  private reported: number;

  constructor(
    private readonly shared: Candidacy,
    private readonly hooks: CandidateHooks,
  ) {
    this.reported = shared.maxLeases;
  }

  /** Reads the leases of all consumers unless all are held. @param isDead remembers its answers for this round */
  async round(isDead: IsDead): Promise<void> {
    const watches = [...this.shared.watches.values()];
    if (watches.every(({ lease }) => lease)) return;
    const states = await this.shared.store.readLeases(watches.map((watch) => watch.key));
    this.room = this.shared.maxLeases - this.count;
    const candidates = watches.flatMap((watch, index): readonly Candidate[] => {
      const state = states[index];
      if (!state) return [];
      if (!watch.lease) return this.observe(watch, state, isDead);
      if (watch.lease.fence === state.fence) this.hooks.inherit(watch, state.heir);
      return [];
    });
    const left = this.leftToOthers(candidates, watches, states, isDead);
    // Wait for all of them, even if one fails: they must not overlap with the next round.
    const outcomes = await Promise.allSettled(
      candidates.map((candidate) => this.consider(candidate, left.has(candidate.watch))),
    );
    this.reportOverfull();
    await this.spread(watches, states, isDead);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  /** Asks for no lease any more, so that others need not leave it to this process. */
  async withdraw(watch: Watch): Promise<void> {
    const { key, requested, seen } = watch;
    delete watch.requested;
    if (requested === undefined || !seen || watch.lease) return;
    const { store, owner } = this.shared;
    await store.requestLease?.(key, undefined, { ...seen.state, heir: owner });
  }

  /** Leases that are held, or were perhaps acquired. */
  private get count(): number {
    let count = 0;
    for (const { lease, tried } of this.shared.watches.values()) if (lease ?? tried) count += 1;
    return count;
  }

  private reportOverfull(): void {
    const { maxLeases, listener } = this.shared;
    const { count } = this;
    if (count > this.reported) listener.overfull(count);
    this.reported = Math.max(count, maxLeases);
  }

  // ---- acquiring

  /** Nothing if the store does not know the consumer. */
  private observe(watch: Watch, state: LeaseState, isDead: IsDead): readonly Candidate[] {
    const { owner, clock, listener, stuckAfter } = this.shared;
    if (state.missing) {
      this.hooks.missing(watch);
      return [];
    }
    if (watch.lost) {
      delete watch.lost;
      if (state.owner?.id !== owner.id) listener.wentTo(watch.key, state.owner);
    }
    const now = clock.monotonic();
    if (state.heir?.id === owner.id) watch.requested ??= now;
    else delete watch.requested;
    if (watch.requested !== undefined && now - watch.requested >= stuckAfter) watch.stuck = state.fence;
    const { seen } = watch;
    const isUnchanged = seen?.state.fence === state.fence && seen.state.counter === state.counter;
    watch.seen = { state, since: isUnchanged ? seen.since : now };
    const acquired = this.acquiredUnknowingly(watch, state);
    const freeAfter = acquired ? 0 : this.freeAfter(state, isDead);
    if (!isUnchanged || now - watch.seen.since < freeAfter) delete watch.free;
    if (now - watch.seen.since >= freeAfter) watch.free ??= now;
    return [{ watch, state, expected: acquired ?? state, freeAfter }];
  }

  /** How long a state has to stay unchanged before the lease is free; milliseconds. */
  private freeAfter({ owner, heir, holdTime = 0 }: LeaseState, isDead: IsDead): number {
    const { leaseTime } = this.shared;
    const isOwned = owner !== undefined && !isDead(owner);
    if (isOwned) return Math.max(leaseTime, holdTime);
    const isReserved = heir !== undefined && heir.id !== this.shared.owner.id && !isDead(heir);
    return isReserved ? leaseTime : 0;
  }

  /**
   * Those that processes which died have left, and that are another one's share. A lease that was released, or never held, goes to the
   * process that is first: perhaps no other one runs the consumer.
   */
  private leftToOthers(
    candidates: readonly Candidate[],
    watches: readonly Watch[],
    states: readonly LeaseState[],
    isDead: IsDead,
  ): ReadonlySet<Watch> {
    const { owner, maxLeases } = this.shared;
    const orphans = candidates.filter(
      ({ watch, state, expected }) =>
        watch.free !== undefined && state.owner && expected === state && !isMine(state, owner),
    );
    if (orphans.length === 0) return NONE;
    const silent = new Set(orphans.map(({ state }) => state.owner?.id));
    const holders = watches
      .flatMap((watch, index) => this.holding(watch, states[index], isDead) ?? [])
      .map(({ holder }) => holder)
      .filter((holder) => !silent.has(holder));
    const mine = fairTakes(
      orphans.map(({ watch }) => consumerId(watch.key)),
      holders,
      owner.id,
      maxLeases,
    );
    return new Set(orphans.flatMap(({ watch }) => (mine.has(consumerId(watch.key)) ? [] : [watch])));
  }

  private async consider({ watch, state, expected, freeAfter }: Candidate, isLeft: boolean): Promise<void> {
    const { seen, free } = watch;
    const { clock, leaseTime, owner } = this.shared;
    if (!seen) return;
    const isCertain = expected !== state || (freeAfter === 0 && isMine(state, owner));
    const own = freeAfter + (this.room > 0 || isCertain ? 0 : leaseTime);
    const others = isLeft && free !== undefined ? free - seen.since + leaseTime * LEFT_FOR : 0;
    watch.patience = Math.max(own, others);
    if (clock.monotonic() - seen.since >= watch.patience) await this.acquire(watch, state, expected);
  }

  private async acquire(watch: Watch, state: LeaseState, expected: LeaseState): Promise<void> {
    const { store, clock, owner, watches, listener } = this.shared;
    const now = clock.monotonic();
    this.room -= 1;
    watch.tried = expected;
    delete watch.stored;
    const holdTime = this.hooks.holdTime(watch, now);
    const lease = await store.acquireLease(watch.key, owner, expected, holdTime);
    delete watch.tried;
    if (!lease) {
      // Another candidate was quicker, or the group was removed: read again at the usual pace.
      watch.seen = { state, since: now };
      delete watch.patience;
      delete watch.free;
      return;
    }
    if (watches.get(consumerId(watch.key)) !== watch) {
      // Removed in the meantime: the process is stopping.
      await store.releaseLease(lease);
      return;
    }
    forget(watch);
    watch.lease = lease;
    watch.renewed = now;
    watch.told = now;
    if (holdTime !== undefined) watch.stored = holdTime;
    const before = expected.owner;
    listener.acquired(watch.key, lease, before === undefined || before.id === owner.id);
  }

  /** The answer to the last attempt was lost, but it succeeded: the same request again returns the lease. */
  private acquiredUnknowingly({ tried }: Watch, { owner, fence }: LeaseState): LeaseState | undefined {
    return tried && owner?.id === this.shared.owner.id && fence === tried.fence + 1 ? tried : undefined;
  }

  // ---- asking

  /** Asks for the leases that this process is short of. */
  private async spread(watches: readonly Watch[], states: readonly LeaseState[], isDead: IsDead): Promise<void> {
    if (!this.shared.store.requestLease) return;
    const holdings = watches.flatMap((watch, index) => this.holding(watch, states[index], isDead) ?? []);
    const { ask, withdraw } = this.moves(holdings);
    if (ask.length === 0) return;
    const [asked, withdrawn] = [new Set(ask), new Set(withdraw)];
    await Promise.all(
      watches.map(async (watch, index) => {
        const state = states[index];
        const id = consumerId(watch.key);
        if (withdrawn.has(id)) await this.withdraw(watch);
        else if (state && asked.has(id)) await this.request(watch, state);
      }),
    );
  }

  private moves(holdings: readonly Holding[]): Moves {
    const { owner, maxLeases } = this.shared;
    const moves = fairMoves(holdings, owner.id, maxLeases, true);
    const isLeft = this.othersAsk;
    this.othersAsk = false;
    if (moves.ask.length > 0) return moves;
    const own = fairMoves(holdings, owner.id, maxLeases, false);
    this.othersAsk = own.ask.length > 0;
    return isLeft ? own : moves;
  }

  private async request(watch: Watch, state: LeaseState): Promise<void> {
    const { store, owner, clock } = this.shared;
    const now = clock.monotonic();
    if ((await store.requestLease?.(watch.key, owner, state)) && !watch.lease) watch.requested = now;
  }

  /** Undefined if nobody has the lease, or whoever has it is dead. */
  private holding(watch: Watch, state: LeaseState | undefined, isDead: IsDead): Holding | undefined {
    const me = this.shared.owner.id;
    const id = consumerId(watch.key);
    const heir = state?.heir && !isDead(state.heir) ? state.heir : undefined;
    if (watch.lease) {
      const holder = heir && state?.fence === watch.lease.fence ? heir.id : me;
      return { id, holder, isRequested: heir !== undefined, isMovable: false };
    }
    if (!state || state.missing) return undefined;
    const owner = state.owner && !isDead(state.owner) ? state.owner : undefined;
    const holder = heir ?? owner;
    if (!holder) return undefined;
    const isMovable = owner !== undefined && owner.id !== me;
    const isStuck = watch.stuck === state.fence;
    return {
      id,
      holder: holder.id,
      isRequested: heir !== undefined,
      isMovable,
      isStuck,
      ...(owner && { owner: owner.id }),
    };
  }
}

/** The process asks for the lease. */
function isMine({ heir }: LeaseState, { id }: LeaseOwner): boolean {
  return heir?.id === id;
}
