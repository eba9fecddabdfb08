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
  /** The process that has asked for the lease and takes it next: the owner finishes what it runs, and releases it. */
  readonly heir?: LeaseOwner;
  /** How long the owner may be silent, if that is longer than the candidate's own lease time; milliseconds. */
  readonly holdTime?: number;
  /**
   * The store knows nothing of the consumer: its stream was dropped, or the database it was in. It has to register again. Not set for a
   * group that was removed, nor for a partition that the stream was given while the group is registered.
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
  /**
   * What its owner says of its work, for others to read in the statistics: any text, of a few kilobytes at the most. What is absent stays as
   * it is, and it stays when the lease changes hands, so it has to say which lease it is of.
   */
  readonly note?: string;
}

/** A lease that was renewed although another process asks for it, or one that is lost. */
export interface RenewalNotice extends Lease {
  /** The lease was renewed, and this process asks for it. Absent: the lease is lost. */
  readonly heir?: LeaseOwner;
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
   * `holdTime` is as given, or gone; an heir is gone. Undefined if it was not, or if the group is not registered: what it would commit would not be held for
   * it. Whether the present owner may be replaced is the caller's judgement.
   */
  acquireLease(
    key: ConsumerKey,
    owner: LeaseOwner,
    expected: LeaseState,
    holdTime?: number,
  ): Promise<Lease | undefined>;
  /**
   * Asks the owner for its lease, or withdraws that. With an `heir`: sets it if the lease is owned, its fence is as `expected`, and nobody
   * asks for it, or only the heir that is `expected`. Without: the heir that is `expected` asks no more, whether the lease is owned or not.
   * The counter stays: it tells whether the owner lives. False if the lease was not as expected. Without this method, whoever acquires a
   * lease first keeps it: leases are not spread over processes.
   */
  requestLease?(key: ConsumerKey, heir: LeaseOwner | undefined, expected: LeaseState): Promise<boolean>;
  /**
   * Renews all of one owner's leases in one round trip, as long as none is lost and none is asked for. Resolves with those that are
   * lost, and with those that are renewed and have an heir.
   */
  renewLeases(leases: readonly Renewal[]): Promise<readonly RenewalNotice[]>;
  /**
   * Gives the lease back, so that the next candidate takes it at once. Its heir stays: the other candidates leave it to that one for a
   * while. Nothing happens if it is lost.
   */
  releaseLease(lease: Lease): Promise<void>;
}
