import type { ConsumerKey } from './consumer-key.interface.js';

/** Who holds a lease. The fields beyond `id` tell a process on the same host whether the owner is dead. */
export interface LeaseOwner {
  /** Unique per running scheduler: a restarted process is another owner. */
  readonly id: string;
  readonly host: string;
  /** Differs after a reboot of the host; empty where it can't be known. */
  readonly bootId: string;
  readonly pid: number;
  /** When the process was started, in the platform's own units, so that a reused pid is told apart; empty where unknown. */
  readonly startTime: string;
}

/** A lease as it lies in the store, for candidates to watch. */
export interface LeaseState {
  /** Absent: nobody holds it. */
  readonly owner?: LeaseOwner;
  /** Grows by one with every acquisition. */
  readonly fence: number;
  /** Grows with every renewal, so that watchers see that the owner lives without comparing clocks. */
  readonly counter: number;
  /** How long the owner may be silent, if that is longer than the candidate's own lease time; milliseconds. */
  readonly holdTime?: number;
  /**
   * The store knows nothing of the consumer: its stream was dropped, or the database it was in. It has to register again. Not set for a
   * group that was removed.
   */
  readonly missing?: true;
}

/** The right to claim and commit for a consumer, until another process acquires it. */
export interface Lease {
  readonly key: ConsumerKey;
  readonly owner: LeaseOwner;
  readonly fence: number;
}

/** A lease to be renewed. */
export interface Renewal extends Lease {
  /** Stored for candidates to see; what is absent stays as it is. */
  readonly holdTime?: number;
}

/** Leases: which process works for a consumer. */
export interface LeaseStore {
  /**
   * The leases of the consumers in the order of `keys`; one that was never held has fence 0, and one that was dropped is `missing`. As
   * long as the stream exists the fence of a key never goes back, also if its group is removed, replaced or registered again. One round
   * trip.
   */
  readLeases(keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]>;
  /**
   * Compare-and-set: becomes the holder if the lease still is as `expected` (fence and counter); the fence grows by one, and
   * `holdTime` is as given, or gone. Undefined if it was not, or if the group is not registered: what it would commit would not be held for
   * it. Whether the present owner may be replaced is the caller's judgement.
   */
  acquireLease(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime?: number,
  ): Promise<Lease | undefined>;
  /** Renews all of one owner's leases in one round trip; resolves with those that are lost. */
  renewLeases(leases: readonly Renewal[]): Promise<readonly Lease[]>;
  /** Gives the lease back, so that the next candidate takes it at once. Nothing happens if it is lost. */
  releaseLease(lease: Lease): Promise<void>;
}
