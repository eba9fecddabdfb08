import type { Clock } from '../common/clock.js';
import { consumerId } from '../storage/stream-store.interface.js';
import type { LeaseOwner, LeaseState, StreamStore } from '../storage/stream-store.interface.js';
import { fairMoves, type Holding } from './lease-spread.js';
import { forget, type LeaseListener, type Watch } from './lease-watch.js';

type IsDead = (owner: LeaseOwner) => boolean;

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
  private leftToOthers = false;
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
    // Wait for all of them, even if one fails: they must not overlap with the next round.
    const outcomes = await Promise.allSettled(
      watches.map(async (watch, index) => {
        const state = states[index];
        if (!state) return;
        if (!watch.lease) await this.consider(watch, state, isDead);
        else if (watch.lease.fence === state.fence) this.hooks.inherit(watch, state.heir);
      }),
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

  private async consider(watch: Watch, state: LeaseState, isDead: IsDead): Promise<void> {
    const { owner, clock, listener, stuckAfter } = this.shared;
    if (state.missing) {
      this.hooks.missing(watch);
      return;
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
    const expected = this.acquiredUnknowingly(watch, state) ?? state;
    watch.patience = expected === state ? this.patience(state, isDead) : 0;
    if (now - watch.seen.since >= watch.patience) await this.acquire(watch, state, expected);
  }

  /** How long a state has to stay unchanged before this process takes the lease; milliseconds. */
  private patience({ owner, heir, holdTime = 0 }: LeaseState, isDead: IsDead): number {
    const { leaseTime } = this.shared;
    const isFree = owner === undefined || isDead(owner);
    const isMine = heir?.id === this.shared.owner.id;
    if (isFree && isMine) return 0;
    const isReserved = isFree && heir !== undefined && !isDead(heir);
    const untilFree = isFree ? 0 : Math.max(leaseTime, holdTime);
    return untilFree + (isReserved ? leaseTime : 0) + (this.room > 0 ? 0 : leaseTime);
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
    const { store, owner, maxLeases } = this.shared;
    if (!store.requestLease) return;
    const holdings = watches.flatMap((watch, index) => this.holding(watch, states[index], isDead) ?? []);
    const patient = fairMoves(holdings, owner.id, maxLeases, true);
    const eager = fairMoves(holdings, owner.id, maxLeases, false);
    const { ask, withdraw } = patient.ask.length === 0 && this.leftToOthers ? eager : patient;
    this.leftToOthers = patient.ask.length === 0 && eager.ask.length > 0;
    if (ask.length === 0) return;
    await Promise.all(
      watches.map(async (watch, index) => {
        const state = states[index];
        const id = consumerId(watch.key);
        if (withdraw.includes(id)) await this.withdraw(watch);
        else if (state && ask.includes(id)) await this.request(watch, state);
      }),
    );
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
