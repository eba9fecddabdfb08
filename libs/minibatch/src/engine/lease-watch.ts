import type { ConsumerKey, Lease, LeaseOwner, LeaseState } from '../storage/stream-store.interface.js';

/** Events of a consumer's lease; every listener returns synchronously. */
export interface LeaseListener {
  /** `clean`: the previous holder released it, or there was none, or it was this process. */
  acquired(key: ConsumerKey, lease: Lease, clean: boolean): void;
  lost(key: ConsumerKey): void;
  /** Who has the lease that was lost: another process, or nobody, because the group was removed. */
  wentTo(key: ConsumerKey, other: LeaseOwner | undefined): void;
  /** The store no longer knows the consumer, and the keeper has forgotten it: it has to register again. */
  missing(key: ConsumerKey): void;
  /**
   * Another process asks for the lease: finish what runs, and then `handOver`. Called with each round until then.
   *
   * @param heir it, or undefined: nobody asks any more
   */
  wanted(key: ConsumerKey, lease: Lease, heir: LeaseOwner | undefined): void;
  /** What is to be said of the consumer's work with the next renewal; undefined if there is nothing. */
  note(key: ConsumerKey, lease: Lease): string | undefined;
  /** It holds more leases than it was to take, because nobody took them. */
  overfull(held: number): void;
}

/** What this process knows of one consumer's lease: it holds it, or watches the holder. */
export interface Watch {
  readonly key: ConsumerKey;
  lease?: Lease;
  /** Monotonic time of the last renewal. */
  renewed: number;
  /** The same of when it was learned last who asks for it. A commit renews the lease, and says nothing of that. */
  told: number;
  /** The last state read, and since when it has not changed, by this process's monotonic clock. */
  seen?: { readonly state: LeaseState; readonly since: number };
  /** Monotonic time since when the lease may be acquired: it is free, or its owner has died. */
  free?: number;
  /** How long the state that was seen has to stay unchanged before this process takes the lease; milliseconds. */
  patience?: number;
  /** How long it may be silent, if longer than the lease time, and until when that holds; see `LeaseKeeper.lengthen`. */
  hold?: { readonly time: number; readonly until: number };
  /** The same as the store has it. */
  stored?: number;
  /** What was said last of the consumer's work. */
  noted?: string;
  /** It was lost, and who has it now has not been read yet. */
  lost?: boolean;
  /** The state that the last attempt to acquire it expected, until the store answers: it may have succeeded. */
  tried?: LeaseState;
  /** Another process asked for the lease, which this one holds, when that was looked at last. */
  isAskedFor?: boolean;
  /** Monotonic time since when this process asks for it. */
  requested?: number;
  /** The fence of the lease that this process asked for in vain: see `fairMoves`. */
  stuck?: number;
  /** Settles when it has been given back to its heir. */
  releasing?: Promise<void>;
}

/** What was known of it as its holder, or as a candidate. */
export function forget(watch: Watch): void {
  delete watch.lease;
  delete watch.seen;
  delete watch.free;
  delete watch.patience;
  delete watch.isAskedFor;
  delete watch.noted;
  delete watch.requested;
}
