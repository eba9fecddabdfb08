import type { AppendStore } from './append.interface.js';
import type { DeadLetterStore } from './dead-letter.interface.js';
import type { LeaseStore } from './lease.interface.js';
import type { MessageStore } from './message.interface.js';
import type { RetentionStore } from './retention.interface.js';
import type { StateStore } from './state.interface.js';
import type { StatisticsStore } from './statistics.interface.js';
import type { StreamCatalog } from './stream.interface.js';
import type { WindowStore } from './window.interface.js';

export type * from './append.interface.js';
export * from './consumer-key.interface.js';
export type * from './dead-letter.interface.js';
export type * from './lease.interface.js';
export type * from './message.interface.js';
export type * from './retention.interface.js';
export type * from './state.interface.js';
export type * from './statistics.interface.js';
export * from './stream.interface.js';
export * from './window.interface.js';

/** What the engine has to know of a store, and how it is opened and closed. */
export interface StoreLifecycle {
  /** For log lines and the status: `mongoose`, `lmdb`, `postgres`, `memory`. */
  readonly name: string;
  /** Largest message in bytes, envelope included. */
  readonly maxMessageBytes: number;
  /** Longest wait in milliseconds between polls for messages of other processes: soon after activity, and at rest. */
  readonly polling: { readonly busy: number; readonly idle: number };
  /**
   * True: a message never turns up before one that could be read already, so a reader need not scan below the id it has read. False:
   * ids are given by the processes that append, and interleave.
   */
  readonly totalOrder: boolean;
  /** What ids of messages look like, for those that people give. Absent: any text is taken for one. */
  readonly idPattern?: RegExp;
  /**
   * How long the store tries to reach its server before it reports that it is unavailable; milliseconds. Appends that wait in the process wait
   * as long. @default what the failed call took
   */
  readonly patience?: number | undefined;

  /**
   * Once it is open: what threatens what the store promises, and what to do about it, such as a server that acknowledges from memory. Each is
   * a line of the log. @default none
   */
  readonly warnings?: readonly string[];

  /** Prepares the store: connects, makes indexes, checks the schema version. Idempotent. */
  open(): Promise<void>;
  /** Releases what `open` took; never closes a connection that the application owns. Idempotent. */
  close(): Promise<void>;
}

/**
 * The storage port, composed from small interfaces. Everything the engine knows of a database is in them; none of them names one.
 *
 * Who calls: `StreamService` and the `Stream` handle append and manage; the engine, which holds the lease of its consumer, fetches,
 * claims, commits and settles; `StatusService` reads statistics. Every store passes the contract suite in `testing/store-contract.ts`.
 *
 * Errors: every method rejects with a `MinibatchError`. `LeaseLost` is final for the lease it names. `StoreUnavailable` means "try again
 * later": the caller backs off and calls again with the same arguments. Therefore every method is idempotent: a call whose answer was
 * lost may simply be repeated.
 *
 * Optional methods may be missing. A call of the public API that needs one which the store lacks is refused with `StoreUnsupported`.
 */
export interface StreamStore
  extends
    StoreLifecycle,
    StreamCatalog,
    AppendStore,
    LeaseStore,
    MessageStore,
    WindowStore,
    DeadLetterStore,
    RetentionStore,
    StateStore,
    StatisticsStore {}
