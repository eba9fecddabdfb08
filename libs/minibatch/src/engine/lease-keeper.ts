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

/** What the keeper tells of a consumer; each answers synchronously. */
export interface LeaseListener {
  /** `clean`: the holder before gave it back, or there was none, or it was this very process. */
  acquired(key: ConsumerKey, lease: Lease, clean: boolean): void;
  lost(key: ConsumerKey): void;
  /** Where the lease that was lost has gone: to another process, or to nobody, for the group was removed. */
  wentTo(key: ConsumerKey, other: LeaseOwner | undefined): void;
  /** The store knows nothing of the consumer any more, and the keeper nothing either: it has to register again. */
  missing(key: ConsumerKey): void;
}

/** A lease is renewed when it is older than this share of the lease time. */
const RENEW_AFTER = 1 / 3;
/** And those that would be due soon go along, so that one round is enough for all. */
const RENEW_ALONG = 0.8;
/** From this age on nothing irrevocable is begun without renewing first. */
const DOUBTFUL_AFTER = 0.8;
/** Between two rounds, milliseconds. */
const SHORTEST_PAUSE = 10;
/** No lease is lengthened beyond, or for longer than; milliseconds. */
const LONGEST_HOLD = 600_000;
const HOLD_MEMORY = 3_600_000;

/** What this process knows of one consumer's lease: it holds it, or it watches who does. */
interface Watch {
  readonly key: ConsumerKey;
  lease?: Lease;
  /** Monotonic time of the last renewal. */
  renewed: number;
  /** What was read last, and since when it has not changed, by the own monotonic clock. */
  seen?: { readonly state: LeaseState; readonly since: number };
  /** How long it may be silent, if longer than the lease time, and until when that holds; see `lengthen`. */
  hold?: { readonly time: number; readonly until: number };
  /** The same as the store has it. */
  stored?: number;
  /** It was lost, and nobody has looked yet to whom. */
  lost?: boolean;
  /** What the last try to take it expected to find, until the store has answered: it may be ours without our knowing. */
  tried?: LeaseState;
}

/**
 * Holds the leases of this process and competes for those of others, all of them in a few commands a round: one
 * that renews, one that looks.
 *
 * A lease is a counter that its owner moves. A candidate takes over after it has seen no movement for one lease time by its
 * own monotonic clock; so no two machines' clocks are compared, and a process that was stopped and woken does not think that
 * time stood still. The taking is a compare-and-set on what was seen. Free leases and those of dead processes on this host
 * are taken at once.
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

  /** Renews what is due, looks at what others hold, takes what is free. Rejects when the store does not answer. */
  async round(): Promise<void> {
    await this.renewDue();
    await this.compete();
  }

  /** The commit point renews the lease too; `sent` is the monotonic time when it was sent. */
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
   * The process was silent for `silence` milliseconds while it worked for the consumer, and will be again. From now on, also after the
   * lease was lost and regained, candidates are asked to wait for longer: otherwise replicas would keep taking it from each other. A
   * process that really dies is noticed later, unless it is on the same host; so it holds for an hour. Answers with the new time.
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
      const lost = await this.store.renewLeases([lease]);
      this.renewed(lease, sent);
      if (lost.length === 0 && this.held(lease)) return;
    }
    this.drop(lease);
    throw leaseLost(lease.key);
  }

  /** The store said that the lease is another's: watch it from now on. */
  drop(lease: Lease): void {
    const watch = this.held(lease);
    if (!watch) return;
    delete watch.lease;
    delete watch.seen;
    watch.lost = true;
    this.listener.lost(watch.key);
  }

  /** Competes for it no more, and gives it back if it is held. */
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
    // Taken before the command: the renewal is as old as its sending.
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
    const lost = new Set((await this.store.renewLeases(renewals)).map((lease) => consumerId(lease.key)));
    for (const renewal of renewals) {
      const watch = this.held(renewal);
      if (lost.has(consumerId(renewal.key))) this.drop(renewal);
      else if (watch) {
        this.renewed(renewal, now);
        if (renewal.holdTime !== undefined) watch.stored = renewal.holdTime;
      }
    }
  }

  /** Undefined where it never was another than the lease time. */
  private holdTime(watch: Watch, now: number): number | undefined {
    if (watch.hold && now >= watch.hold.until) delete watch.hold;
    return watch.hold?.time ?? (watch.stored === undefined ? undefined : this.leaseTime);
  }

  private async compete(): Promise<void> {
    const candidates = [...this.watches.values()].filter((watch) => !watch.lease);
    if (candidates.length === 0) return;
    // Asking the system once for each owner, not once for each lease.
    const dead = new Map<string, boolean>();
    const isDead = (owner: LeaseOwner) => {
      const known = dead.get(owner.id) ?? this.isDead(owner);
      dead.set(owner.id, known);
      return known;
    };
    const states = await this.store.readLeases(candidates.map((watch) => watch.key));
    // All of them, even if one fails: what is in flight must not meet the next round.
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
      // Another candidate was quicker, or the group was removed: look again at the usual pace.
      watch.seen = { state, since: now };
      return;
    }
    if (this.watches.get(consumerId(watch.key)) !== watch) {
      // Removed meanwhile: the process is stopping.
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

  /** The answer to the last try was lost, but it has succeeded: asking the same again gives the lease. */
  private acquiredUnknowingly({ tried }: Watch, { owner, fence }: LeaseState): LeaseState | undefined {
    return tried && owner?.id === this.owner.id && fence === tried.fence + 1 ? tried : undefined;
  }
}

export function isLeaseLost(error: unknown): boolean {
  return isA(error, MinibatchError) && error.code === ErrorCode.LeaseLost;
}
