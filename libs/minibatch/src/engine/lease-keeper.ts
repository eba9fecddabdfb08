import { isA } from '../errors/error-text.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { leaseLost } from '../errors/store-faults.js';
import type { Clock } from '../common/clock.js';
import { consumerId } from '../storage/stream-store.interface.js';
import type { ConsumerKey, Lease, LeaseOwner, Renewal, StreamStore } from '../storage/stream-store.interface.js';
import { LeaseCandidate } from './lease-candidate.js';
import { forget, type LeaseListener, type Watch } from './lease-watch.js';

export interface LeaseKeeperOptions {
  /** A holder that has not renewed its lease for this long is replaced; milliseconds. */
  readonly leaseTime: number;
  /** Leases that this process takes. @default as many as there are */
  readonly maxLeases?: number;
  /** A hand-over that takes longer is stuck, so another lease is asked for instead; milliseconds. @default none is */
  readonly handover?: number;
}

/** A lease is renewed when it is older than this share of the lease time. */
const RENEW_AFTER = 1 / 3;
/** Those that would be due soon are renewed in the same round. */
const RENEW_ALONG = 0.8;
/** A candidate looks at least once in this share of the lease time, */
const WATCH_EVERY = 1 / 6;
/** and as often as this when it is about to get a lease that it has asked for: meanwhile nobody works for the consumer. */
const AWAIT_EVERY = 1 / 30;
/** The holder has begun to hand over within this share of the lease time. */
const NOTICED_WITHIN = 1 / 2;
/** From this age on, nothing irrevocable starts without a renewal first. */
const DOUBTFUL_AFTER = 0.8;
/** Between two rounds, milliseconds. */
const SHORTEST_PAUSE = 10;
/** Longest lease, and for how long it stays lengthened; milliseconds. */
const LONGEST_HOLD = 600_000;
const HOLD_MEMORY = 3_600_000;

/**
 * Holds the leases of this process and competes for those of others, all of them in a few commands per round: one
 * renews, one reads.
 *
 * A lease is a counter that its owner increments. A candidate takes over when it has seen no increment for one lease time by its
 * own monotonic clock: no two machines' clocks are compared, and a process that was suspended notices that time has passed.
 * Acquiring is a compare-and-set on the state that was read. Free leases and those of dead processes on this host are acquired
 * at once.
 *
 * Leases are spread evenly over the processes that compete for them. One that has at least two fewer than another asks for one
 * (`lease-spread.ts`): it becomes the heir. The holder drains the consumer and releases the lease, and the heir takes it. What was
 * asked for counts as the heir's already, so that nobody asks for too much. If it does not move, the heir asks for another. Nothing is
 * ever taken from a process that is alive; what one that died has left is shared in the same way.
 */
export class LeaseKeeper {
  private readonly watches = new Map<string, Watch>();
  private readonly leaseTime: number;
  private readonly candidate: LeaseCandidate;

  constructor(
    private readonly store: StreamStore,
    private readonly clock: Clock,
    owner: LeaseOwner,
    { leaseTime, maxLeases = Infinity, handover = Infinity }: LeaseKeeperOptions,
    private readonly isDead: (owner: LeaseOwner) => boolean,
    private readonly listener: LeaseListener,
  ) {
    this.leaseTime = leaseTime;
    const { watches } = this;
    const stuckAfter = handover + leaseTime * NOTICED_WITHIN;
    this.candidate = new LeaseCandidate(
      { watches, store, clock, owner, leaseTime, maxLeases, stuckAfter, listener },
      {
        missing: ({ key }) => {
          watches.delete(consumerId(key));
          listener.missing(key);
        },
        inherit: (watch, heir) => this.inherit(watch, heir),
        holdTime: (watch, now) => this.holdTime(watch, now),
      },
    );
  }

  add(key: ConsumerKey): void {
    this.watches.set(consumerId(key), { key, renewed: 0, told: 0 });
  }

  /** Milliseconds until the next round is due. */
  get pause(): number {
    const now = this.clock.monotonic();
    let pause = this.renewalPause;
    for (const watch of this.watches.values()) {
      const { lease, seen, patience = this.leaseTime } = watch;
      if (lease) continue;
      if (seen) pause = Math.min(pause, seen.since + patience - now, this.leaseTime * this.watchEvery(watch, now));
      else pause = 0;
    }
    return Math.max(pause, SHORTEST_PAUSE);
  }

  /** A drain that takes longer than a lease time may take hours. */
  private watchEvery({ requested }: Watch, now: number): number {
    return requested !== undefined && now - requested < this.leaseTime ? AWAIT_EVERY : WATCH_EVERY;
  }

  /** Milliseconds until the next renewal is due. */
  get renewalPause(): number {
    const now = this.clock.monotonic();
    let pause = this.leaseTime * RENEW_AFTER;
    for (const watch of this.watches.values()) {
      if (watch.lease) pause = Math.min(pause, this.heard(watch) + this.leaseTime * RENEW_AFTER - now);
    }
    return Math.max(pause, SHORTEST_PAUSE);
  }

  /** Renews what is due, reads what others hold, acquires what is free. Rejects when the store does not answer. */
  async round(): Promise<void> {
    await this.renewDue();
    await this.candidate.round(askedOnce(this.isDead));
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
    forget(watch);
    watch.lost = true;
    this.listener.lost(watch.key);
  }

  /** The consumers whose leases this process asks for. */
  get requested(): readonly ConsumerKey[] {
    return [...this.watches.values()].flatMap(({ key, requested }) => (requested === undefined ? [] : [key]));
  }

  /** Releases a lease whose consumer has been drained, for its heir to take, and goes on competing for it. */
  async handOver(lease: Lease): Promise<void> {
    const watch = this.held(lease);
    if (!watch) return;
    forget(watch);
    watch.releasing = this.store.releaseLease(lease);
    try {
      await watch.releasing;
    } finally {
      delete watch.releasing;
    }
  }

  /** Stops competing for it, releases it if it is held, and asks for it no more. */
  async leave(key: ConsumerKey): Promise<void> {
    const id = consumerId(key);
    const watch = this.watches.get(id);
    this.watches.delete(id);
    if (watch?.lease) await this.store.releaseLease(watch.lease);
    else if (watch) await Promise.all([watch.releasing, this.candidate.withdraw(watch)]);
  }

  /** Asks for no lease any more: others need not leave to this process what it was to get. */
  async withdrawAll(): Promise<void> {
    await Promise.all([...this.watches.values()].map((watch) => this.candidate.withdraw(watch)));
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
        (now - this.heard(w) >= this.leaseTime * RENEW_AFTER * RENEW_ALONG || this.holdTime(w, now) !== w.stored),
    );
    const renewals = due.flatMap((watch) => (watch.lease ? this.renewal(watch, watch.lease, now) : []));
    if (renewals.length === 0) return;
    const notices = await this.store.renewLeases(renewals);
    const told = new Map(notices.map((notice) => [consumerId(notice.key), notice]));
    for (const renewal of renewals) {
      const watch = this.held(renewal);
      const notice = told.get(consumerId(renewal.key));
      if (notice && !notice.heir) this.drop(renewal);
      else if (watch) {
        this.renewed(renewal, now);
        if (renewal.holdTime !== undefined) watch.stored = renewal.holdTime;
        if (renewal.note !== undefined) watch.noted = renewal.note;
        this.inherit(watch, notice?.heir);
      }
    }
  }

  private renewal(watch: Watch, lease: Lease, now: number): Renewal {
    const holdTime = this.holdTime(watch, now);
    const note = this.listener.note(watch.key, lease);
    return {
      ...lease,
      ...(holdTime !== undefined && { holdTime }),
      ...(note !== undefined && note !== watch.noted && { note }),
    };
  }

  /** Tells the listener who asks for a lease that is held, or that nobody does any more. */
  private inherit(watch: Watch, asking: LeaseOwner | undefined): void {
    const { lease, key, isAskedFor = false } = watch;
    const heir = asking && !this.isDead(asking) ? asking : undefined;
    watch.told = this.clock.monotonic();
    watch.isAskedFor = heir !== undefined;
    if (lease && (heir || isAskedFor)) this.listener.wanted(key, lease, heir);
  }

  /** Monotonic time since when nothing is known of the lease: a consumer that commits often has to ask who wants it, too. */
  private heard({ renewed, told }: Watch): number {
    return this.store.requestLease ? Math.min(renewed, told) : renewed;
  }

  /** Undefined if it was never lengthened. */
  private holdTime(watch: Watch, now: number): number | undefined {
    if (watch.hold && now >= watch.hold.until) delete watch.hold;
    return watch.hold?.time ?? (watch.stored === undefined ? undefined : this.leaseTime);
  }
}

/** Asks the system once per owner, not once per lease. */
function askedOnce(isDead: (owner: LeaseOwner) => boolean): (owner: LeaseOwner) => boolean {
  const answers = new Map<string, boolean>();
  return (owner) => {
    const answer = answers.get(owner.id) ?? isDead(owner);
    answers.set(owner.id, answer);
    return answer;
  };
}

export function isLeaseLost(error: unknown): boolean {
  return isA(error, MinibatchError) && error.code === ErrorCode.LeaseLost;
}
