import type { LeaseState } from './lease.interface.js';
import type { StreamInfo } from './stream.interface.js';
import type { ConsumerProgress } from './window.interface.js';

export interface ConsumerStats {
  readonly group: string;
  readonly partition: number;
  readonly lease: LeaseState;
  readonly progress: ConsumerProgress;
  /** Claimed and not settled. */
  readonly openWindows: number;
  /** Messages in the buffer that the group has not committed, claimed ones included. */
  readonly pending: number;
  /** What a holder of the lease said last; see `Renewal`. */
  readonly note?: string;
}

/** Documents of the stream in a shared database that can't be read as messages. */
export interface ForeignDocuments {
  readonly documents: number;
  /** The id of one of them, as text. */
  readonly example: string;
}

/** Counted in the database. */
export interface StreamStats extends StreamInfo {
  /** Messages in the buffer that at least one group has not committed. */
  readonly buffered: number;
  /** `created` of the oldest of them. */
  readonly oldest?: Date;
  /** Dead letters of all groups. */
  readonly deadLetters: number;
  /** What others have put into the buffer that is no message, if there is any: reads pass it over. */
  readonly foreign?: ForeignDocuments;
  /**
   * When a consumer of another library, which does not know our claims, last took messages from it; absent if none ever did. In MongoDB
   * that is Python's minibatch.
   */
  readonly readElsewhere?: Date;
  readonly consumers: readonly ConsumerStats[];
}

/** Figures for status and health. */
export interface StatisticsStore {
  /** Counted in the store; of all streams when no names are given. */
  stats(streams?: readonly string[]): Promise<readonly StreamStats[]>;
}
