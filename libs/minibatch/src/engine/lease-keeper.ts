import { isA } from '../errors/error-text.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { leaseLost } from '../errors/store-faults.js';
import type { Clock } from '../common/clock.js';
import { consumerId } from '../storage/stream-store.interface.js';
import type {
  ConsumerKey,
  Lease,
  LeaseOwner,
  LeaseState,
  Renewal,
  StreamStore,
} from '../storage/stream-store.interface.js';

/** Events of a consumer's lease; every listener returns synchronously. */
export interface LeaseListener {
  /** `clean`: the previous holder released it, or there was none, or it was this process. */
  acquired(key: ConsumerKey, lease: Lease, clean: boolean): void;
  lost(key: ConsumerKey): void;
  /** Who has the lease that was lost: another process, or nobody, because the group was removed. */
  wentTo(key: ConsumerKey, other: LeaseOwner | undefined): void;
  /** The store no longer knows the consumer, and the keeper has forgotten it: it has to register again. */
  missing(key: ConsumerKey): void;
}

/** A lease is renewed when it is older than this share of the lease time. */
const RENEW_AFTER = 1 / 3;
/** Those that would be due soon are renewed in the same round. */
const RENEW_ALONG = 0.8;
/** From this age on, nothing irrevocable starts without a renewal first. */
const DOUBTFUL_AFTER = 0.8;
/** Between two rounds, milliseconds. */
const SHORTEST_PAUSE = 10;
/** Longest lease, and for how long it stays lengthened; milliseconds. */
const LONGEST_HOLD = 600_000;
const HOLD_MEMORY = 3_600_000;

/** What this process knows of one consumer's lease: it holds it, or watches the holder. */
interface Watch {
  readonly key: ConsumerKey;
  lease?: Lease;
  /** Monotonic time of the last renewal. */
  renewed: number;
  /** The last state read, and since when it has not changed, by this process's monotonic clock. */
  seen?: { readonly state: LeaseState; readonly since: number };
  /** How long it may be silent, if longer than the lease time, and until when that holds; see `lengthen`. */
  hold?: { readonly time: number; readonly until: number };
  /** The same as the store has it. */
  stored?: number;
  /** It was lost, and who has it now has not been read yet. */
  lost?: boolean;
  /** The state that the last attempt to acquire it expected, until the store answers: it may have succeeded. */
  tried?: LeaseState;
}

/**
 * Holds the leases of this process and competes for those of others, all of them in a few commands per round: one
 * renews, one reads.
 *
 * A lease is a counter that its owner increments. A candidate takes over when it has seen no increment for one lease time by its
 * own monotonic clock: no two machines' clocks are compared, and a process that was suspended notices that time has passed.
 * Acquiring is a compare-and-set on the state that was read. Free leases and those of dead processes on this host are acquired
 * at once.
 */
export class LeaseKeeper {
  private readonly watches = new Map<string, Watch>();

  constructor(
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly owner: LeaseOwner,
    private readonly leaseTime: number,
    private readonly isDead: (owner: LeaseOwner) => boolean,
    private readonly listener: LeaseListener,
  ) {}

  add(key: ConsumerKey): void {
    this.watches.set(consumerId(key), { key, renewed: 0 });
  }

  /** Milliseconds until the next round is due. */
  get pause(): number {
    const now = this.clock.monotonic();
    let pause = this.renewalPause;
    for (const watch of this.watches.values()) {
      if (watch.lease) continue;
      const patience = Math.max(this.leaseTime, watch.seen?.state.holdTime ?? 0);
      if (watch.seen) pause = Math.min(pause, watch.seen.since + patience - now, this.leaseTime / 6);
      else pause = 0;
    }
    return Math.max(pause, SHORTEST_PAUSE);
  }

  /** Milliseconds until the next renewal is due. */
  get renewalPause(): number {
    const now = this.clock.monotonic();
    let pause = this.leaseTime * RENEW_AFTER;
    for (const watch of this.watches.values()) {
      if (watch.lease) pause = Math.min(pause, watch.renewed + this.leaseTime * RENEW_AFTER - now);
    }
    return Math.max(pause, SHORTEST_PAUSE);
  }

  /** Renews what is due, reads what others hold, acquires what is free. Rejects when the store does not answer. */
  async round(): Promise<void> {
    await this.renewDue();
    await this.compete();
  }

  /** The commit point renews the lease as well; `sent` is the monotonic time when it was sent. */
  renewed(lease: Lease, sent: number): void {
    const watch = this.held(lease);
    if (watch) watch.renewed = Math.max(watch.renewed, sent);
  }

  /** False if the lease is gone, or so old that another process may have taken it. */
  isFresh(lease: Lease): boolean {
    const watch = this.held(lease);
    if (watch === undefined) return false;
    const time = Math.max(this.leaseTime, watch.stored ?? 0);
    return this.clock.monotonic() - watch.renewed < time * DOUBTFUL_AFTER;
  }

  /**
   * The process was silent for `silence` milliseconds while it worked for the consumer, and may be again. From now on, also after the
   * lease was lost and regained, candidates wait for longer: otherwise replicas would keep taking it from each other. A process that
   * really dies is noticed later then, unless it is on the same host, so this lasts for an hour. Returns the new lease time.
   */
  lengthen(key: ConsumerKey, silence: number): number {
    const watch = this.watches.get(consumerId(key));
    const now = this.clock.monotonic();
    const time = Math.min(Math.max(2 * silence + this.leaseTime, watch?.hold?.time ?? 0), LONGEST_HOLD);
    if (watch) watch.hold = { time, until: now + HOLD_MEMORY };
    return time;
  }

  /** Makes sure of the lease before something irrevocable. @throws LeaseLost, or what the store rejects with */
  async ensure(lease: Lease): Promise<void> {
    if (this.isFresh(lease)) return;
    if (this.held(lease)) {
      const sent = this.clock.monotonic();
      const notices = await this.store.renewLeases([lease]);
      this.renewed(lease, sent);
      if (notices.every(({ heir }) => heir) && this.held(lease)) return;
    }
    this.drop(lease);
    throw leaseLost(lease.key);
  }

  /** The store says that another process has the lease: watch it from now on. */
  drop(lease: Lease): void {
    const watch = this.held(lease);
    if (!watch) return;
    delete watch.lease;
    delete watch.seen;
    watch.lost = true;
    this.listener.lost(watch.key);
  }

  /** Stops competing for it, and releases it if it is held. */
  async leave(key: ConsumerKey): Promise<void> {
    const id = consumerId(key);
    const lease = this.watches.get(id)?.lease;
    this.watches.delete(id);
    if (lease) await this.store.releaseLease(lease);
  }

  private held(lease: Lease): Watch | undefined {
    const watch = this.watches.get(consumerId(lease.key));
    return watch?.lease?.fence === lease.fence ? watch : undefined;
  }

  /** Only the first half of a round: for a process that is stopping. */
  async renewDue(): Promise<void> {
    // Read before the command: a renewal counts from when it was sent.
    const now = this.clock.monotonic();
    const due = [...this.watches.values()].filter(
      (w) =>
        w.lease &&
        (now - w.renewed >= this.leaseTime * RENEW_AFTER * RENEW_ALONG || this.holdTime(w, now) !== w.stored),
    );
    const renewals = due.flatMap((watch): Renewal[] => {
      const holdTime = this.holdTime(watch, now);
      return watch.lease ? [{ ...watch.lease, ...(holdTime === undefined ? {} : { holdTime }) }] : [];
    });
    if (renewals.length === 0) return;
    const notices = await this.store.renewLeases(renewals);
    const lost = new Set(notices.flatMap(({ key, heir }) => (heir ? [] : consumerId(key))));
    for (const renewal of renewals) {
      const watch = this.held(renewal);
      if (lost.has(consumerId(renewal.key))) this.drop(renewal);
      else if (watch) {
        this.renewed(renewal, now);
        if (renewal.holdTime !== undefined) watch.stored = renewal.holdTime;
      }
    }
  }

  /** Undefined if it was never lengthened. */
  private holdTime(watch: Watch, now: number): number | undefined {
    if (watch.hold && now >= watch.hold.until) delete watch.hold;
    return watch.hold?.time ?? (watch.stored === undefined ? undefined : this.leaseTime);
  }

  private async compete(): Promise<void> {
    const candidates = [...this.watches.values()].filter((watch) => !watch.lease);
    if (candidates.length === 0) return;
    // Ask the system once per owner, not once per lease.
    const dead = new Map<string, boolean>();
    const isDead = (owner: LeaseOwner) => {
      const known = dead.get(owner.id) ?? this.isDead(owner);
      dead.set(owner.id, known);
      return known;
    };
    const states = await this.store.readLeases(candidates.map((watch) => watch.key));
    // Wait for all of them, even if one fails: they must not overlap with the next round.
    const outcomes = await Promise.allSettled(
      candidates.map(async (watch, index) => {
        const state = states[index];
        if (state) await this.consider(watch, state, isDead);
      }),
    );
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  private async consider(watch: Watch, state: LeaseState, isDead: (owner: LeaseOwner) => boolean): Promise<void> {
    if (state.missing) {
      this.watches.delete(consumerId(watch.key));
      this.listener.missing(watch.key);
      return;
    }
    if (watch.lost) {
      delete watch.lost;
      if (state.owner?.id !== this.owner.id) this.listener.wentTo(watch.key, state.owner);
    }
    const now = this.clock.monotonic();
    const { seen } = watch;
    if (seen?.state.fence !== state.fence || seen.state.counter !== state.counter) watch.seen = { state, since: now };
    const unchanged = now - (watch.seen?.since ?? now);
    const expected = this.acquiredUnknowingly(watch, state) ?? state;
    const patience = Math.max(this.leaseTime, state.holdTime ?? 0);
    const free = expected !== state || state.owner === undefined || unchanged >= patience || isDead(state.owner);
    if (!free) return;
    watch.tried = expected;
    delete watch.stored;
    const holdTime = this.holdTime(watch, now);
    const lease = await this.store.acquireLease(watch.key, this.owner, expected, holdTime);
    delete watch.tried;
    if (!lease) {
      // Another candidate was quicker, or the group was removed: read again at the usual pace.
      watch.seen = { state, since: now };
      return;
    }
    if (this.watches.get(consumerId(watch.key)) !== watch) {
      // Removed in the meantime: the process is stopping.
      await this.store.releaseLease(lease);
      return;
    }
    watch.lease = lease;
    watch.renewed = now;
    if (holdTime !== undefined) watch.stored = holdTime;
    delete watch.seen;
    const before = expected.owner;
    this.listener.acquired(watch.key, lease, before === undefined || before.id === this.owner.id);
  }

  /** The answer to the last attempt was lost, but it succeeded: the same request again returns the lease. */
  private acquiredUnknowingly({ tried }: Watch, { owner, fence }: LeaseState): LeaseState | undefined {
    return tried && owner?.id === this.owner.id && fence === tried.fence + 1 ? tried : undefined;
  }
}

export function isLeaseLost(error: unknown): boolean {
  return isA(error, MinibatchError) && error.code === ErrorCode.LeaseLost;
}
