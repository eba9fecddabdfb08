import type { NewMessage } from './append.interface.js';
import type { ConsumerKey } from './consumer-key.interface.js';

/**
 * A row of a consumer's state: what it remembers of messages that have left the buffer, such as the messages of an open window, or a
 * count of them.
 */
export interface StateRow {
  /** Its name, unique to the consumer: 1 to 256 bytes of well-formed UTF-8 without NUL. Two that differ in one byte are two rows. */
  readonly slot: string;
  /** The store knows nothing of what is in it. */
  readonly value: Uint8Array;
  /** When something is to be done with it. */
  readonly due?: Date;
}

/**
 * What a window changes when it is committed, apart from its messages. Rows are whole values, never differences, so that applying them
 * twice does no harm.
 */
export interface Effects {
  /** Rows that take the place of those with the same slots. */
  readonly put?: readonly StateRow[];
  /** Slots whose rows go; none is also in `put`. */
  readonly remove?: readonly string[];
  /**
   * Messages for any streams of the store, in their order. Each has a `dedupeId` that no other commit uses, by which a store tells that it
   * has appended the message; one that appends in the transaction of the commit point need not use it.
   */
  readonly append?: readonly NewMessage[];
}

/** How many rows one read may bring. One row is returned at least if there is one, however large it is. */
export interface StateLimits {
  readonly rows: number;
  /** Of the values. */
  readonly bytes: number;
}

export interface StatePage {
  readonly rows: readonly StateRow[];
  /** Where the next read begins; absent on the last page. */
  readonly next?: string;
}

/**
 * The state of consumers, and messages that a commit appends. A store without these methods gets commits without effects only.
 *
 * - The commit point decides effects, and nothing else does: if it is recorded, they are applied once; if it is not, nothing of them ever
 *   shows. A repeated commit changes nothing more.
 * - They can be read when `settle` of their window has resolved. Before that a read may bring the rows of before.
 * - Windows with effects are committed and settled in the order of `seq`. What a former holder still applies late changes no row that has
 *   been written or removed since, and appends no message a second time.
 * - State goes with the consumer: it is removed with its group or its stream, and follows when another group replaces it.
 */
export interface StateStore {
  /** Bytes that the effects of one commit may have, together with those of windows that are committed and not settled. */
  readonly maxEffectBytes?: number;
  /** Bytes that the effects of one window may have, which are never committed otherwise than together. Absent: any number. */
  readonly maxWindowEffectBytes?: number;
  /** The rows with these slots, in any order; those that do not exist are left out. One round trip for up to 2,000 of them. */
  readState?(key: ConsumerKey, slots: readonly string[]): Promise<readonly StateRow[]>;
  /** Rows that are due at `before` or earlier, by `due` and then by the bytes of `slot`; behind the row `after`, if it is given. */
  dueState?(
    key: ConsumerKey,
    before: Date,
    after: Pick<StateRow, 'slot' | 'due'> | undefined,
    limits: StateLimits,
  ): Promise<readonly StateRow[]>;
  /** All rows, in an order that does not change. `after` is the `next` of the page before. */
  listState?(key: ConsumerKey, after: string | undefined, limits: StateLimits): Promise<StatePage>;
}
