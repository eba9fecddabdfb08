import type { Message } from '../windows/message.js';
import type { SideNote } from './side-note.js';
import type { Look, Mark } from './watermark.js';

/** What is put into windows: a message, or one of several values that were made of it. */
export interface Item {
  /** Of the message; with a number, if several values were made of it. No two items have the same. */
  readonly id: string;
  /** As `keyOf` gives it. */
  readonly key: string;
  /** Milliseconds since the epoch: as `timeOf` gives it, or `created`. */
  readonly time: number;
  readonly data: unknown;
  readonly message: Message;
  /** Size as stored, in bytes. */
  readonly bytes: number;
  /** What `message` was made of, if it is not what the application has appended. */
  readonly origin?: Pick<Message, 'id' | 'key' | 'created' | 'headers'>;
}

/** An item in read order, with the mark that those before it have set: by that it is late or not. */
export interface TimedItem extends Item {
  readonly mark: number;
}

/** What is read in order: an item, with what its side says if there are several, or what a side says without one. */
export type Entry = (Item & { readonly note?: SideNote }) | { readonly note: SideNote };

/** Reads a batch: moves the mark, and says for each item where it was. The time of one far in the future is that of its arrival. */
export function readInOrder(entries: readonly Entry[], watermark: Mark, look: Look): readonly TimedItem[] {
  const items: TimedItem[] = [];
  for (const entry of entries) {
    if ('id' in entry) items.push({ ...entry, ...watermark.read(entry.time, look, entry.note) });
    else watermark.hear(entry.note, look);
  }
  return items;
}

/** A row of the store, decoded: whole values, never differences. */
export interface Row {
  readonly slot: string;
  /** Plain data that can be stored. */
  readonly value: unknown;
  /** The mark at which the row wants to be fired, in milliseconds since the epoch. */
  readonly due?: number | undefined;
}

/**
 * The rows of one step. It holds those that were asked for; what is put or removed is seen by later calls, and stored when the step is committed.
 * A value that was got or put is not changed afterwards.
 */
export interface StateView {
  get(slot: string): unknown;
  put(slot: string, value: unknown, due?: number): void;
  remove(slot: string): void;
}

/** Messages of a window, in rows. Rows do not change as long as a window that has not been handled names them. */
export interface WindowContent {
  /** Rows that hold the messages, as `Chunk`. */
  readonly chunks: readonly string[];
  /** Messages in it; with `after` and `until`, at most so many. */
  readonly count: number;
  /** Of the messages in the rows. */
  readonly bytes: number;
  /** Without so many at the beginning. @default 0 */
  readonly skip?: number;
  /** Only those later than this. @default all */
  readonly after?: number;
  /** Only those at this time or before. @default all */
  readonly until?: number;
}

/** A window that has closed. */
export interface FiredWindow {
  readonly key: string;
  /** Inclusive; milliseconds since the epoch. Absent: windows by count. */
  readonly start?: number;
  /** Exclusive; of `every: 'message'` inclusive. */
  readonly end?: number;
  /**
   * The item that opened it, where there may be several windows with the same bounds: late ones, the first message of a session with
   * `leading`, windows at each message and by count. Key, bounds, revision and this are what a result is known by.
   */
  readonly openedBy?: string;
  /** How often the result of this window was given before. */
  readonly revision: number;
  /** It holds, or was changed by, messages that came when it was closed. */
  readonly late: boolean;
  /** It was fired before its time, or is the first message of a session with `leading`, or has fewer messages than `size`. */
  readonly partial: boolean;
  /** Of aggregates: the result. */
  readonly value?: unknown;
  /** What the result's function, or a `merge`, threw instead. */
  readonly failed?: unknown;
  /** Of aggregates: accumulators of all messages of the window, of which the result can be made again. Not to be changed. */
  readonly parts?: readonly unknown[];
  /** The window's messages, where they are collected. Absent: none. */
  readonly content?: WindowContent;
  /** Rows to remove when this window and all before it of the same key have been handled. */
  readonly release?: readonly string[];
  /** True: it is no window, and only tells what to release. */
  readonly silent?: true;
}

export interface Bounds {
  readonly start: number;
  readonly end: number;
}

/** An item that came too late for windows that are not given to the method: it goes where `late` says. */
export interface LateItem {
  readonly item: Item;
  /** Those that it was too late for; empty where it came too late for a window of its own. */
  readonly windows: readonly Bounds[];
  /** Whether it is in other windows, for which it was not too late. */
  readonly taken: boolean;
}

/** An item that is in no window because a function threw at it. State and results are as if it had not come. */
export interface FailedItem {
  readonly item: Item;
  readonly error: unknown;
}

export interface Taken {
  /** Windows that an item has closed or changed, in order. */
  readonly fired: readonly FiredWindow[];
  readonly late: readonly LateItem[];
  /** Items that are only in late windows of their own: counted, and given to the method. */
  readonly lateTaken: number;
  readonly failed: readonly FailedItem[];
}

/** What is common to all calls of a step. */
export interface Step {
  readonly state: StateView;
  /** A number that no committed step of this consumer has had. */
  readonly number: number;
  /** By what it fires: the mark. What does not end before is left. */
  readonly mark: number;
  /** Windows of a row that are fired; the row is fired, or flushed, again for the rest. @default as many as the logic finds right */
  readonly most?: number | undefined;
  /** True: who calls weighs rows, and calls once more without this if one of them is large. Then accumulators need not be weighed. */
  readonly isLight?: boolean | undefined;
}

/**
 * What windows do with messages: functions of items, rows and a mark. A step that was not committed is repeated on the rows as
 * they were, and comes to the same.
 *
 * ```text
 * const items = readInOrder(batch, watermark, look);
 * const rows = await read(logic.needs(items));
 * const { fired, late, failed } = logic.take(items, { state: view(rows), number, mark: watermark.value });
 * ```
 */
export interface WindowLogic {
  /** The slots of the rows that `take` gets or puts, but for rows that it makes. */
  needs(items: readonly TimedItem[]): readonly string[];
  /** Puts a batch into its windows. */
  take(items: readonly TimedItem[], step: Step): Taken;
  /** The slots of further rows that `fire` gets for these due rows. */
  needsToFire(due: readonly Row[], mark: number): readonly string[];
  /**
   * Fires what is due in these rows. A row may be due again afterwards: it is called until no row is due.
   *
   * @throws what a `merge` of the application throws
   */
  fire(due: readonly Row[], step: Step): readonly FiredWindow[];
  /** The slots of further rows that `flush` gets for these rows. */
  needsToFlush(rows: readonly Row[]): readonly string[];
  /**
   * Fires all windows in these rows, whatever the mark; those that would not have closed are partial. Rows of other kinds are left.
   *
   * @param step with the mark from before the flush, for all pages of rows: what they raise it to makes no window a closed one
   * @returns the windows, and to where the mark has to be raised: what comes for them is late
   */
  flush(rows: readonly Row[], step: Step): { readonly fired: readonly FiredWindow[]; readonly raise: number };
}
