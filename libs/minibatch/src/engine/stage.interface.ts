import type { Sink } from '../sinks/sink.interface.js';
import type { NewMessage, StoredMessage, WindowBounds } from '../storage/stream-store.interface.js';
import type { Window } from '../windows/window.js';
import type { WindowEmitter } from '../windows/window-emitter.js';

export interface NamedSink {
  /** For log lines, errors and the status. */
  readonly name: string;
  readonly sink: Sink;
}

/**
 * Handles windows one after another. What it changes of its state, and what it appends, is committed together with the window: exactly
 * once. An attempt that throws is made again with backoff until one is through. Messages that `window.reject` names become dead letters.
 */
export interface Stage {
  /** @param strategy the consumer's own instance, which may remember what is between two windows */
  readonly run: (window: Window, changes: StageChanges, strategy: WindowEmitter) => void | Promise<void>;
  readonly values: ValueCodec;
  /** Bytes of rows that are kept in memory for later windows. */
  readonly cacheBytes: number;
  /**
   * What becomes of a window is more than is committed together (`StageChanges.requireRoom`): its messages, and those of all windows behind
   * it, are given to the strategy once more, which is to make windows of so many messages at the most.
   */
  readonly givenBack?: (strategy: WindowEmitter, most: number) => void;
  /** The same stage with others in place of the sinks that it calls itself; absent if it calls none. */
  readonly withSinks?: (replace: (sink: NamedSink) => NamedSink) => Stage;
  /**
   * Given by a stage that fires windows of its rows: the messages of one, in order. The handler gets them; of the windows of the buffer it sees
   * nothing. They are the same each time it is called.
   *
   * @param content as it was given to `fire`
   * @param rows values of the window's rows by slot; without those that are gone
   */
  readonly open?: (content: unknown, rows: ReadonlyMap<string, unknown>) => readonly StoredMessage[];
}

/** A window that a stage makes of rows of its state. Plain data, which its codec can encode. */
export interface RowWindow {
  /** What tells it from other windows with the same messages; part of its id. */
  readonly name: string;
  /** Windows with the same lane are handled one after another, in the order in which they were fired. */
  readonly lane: string;
  /** As the handler is told. */
  readonly key?: string;
  /** Milliseconds since the epoch. */
  readonly start?: number;
  readonly end?: number;
  readonly part?: number;
  readonly late?: boolean;
  readonly partial?: boolean;
  readonly revision?: number;
  /** How many messages it has, and their bytes; or more. */
  readonly size: { readonly messages: number; readonly bytes: number };
  /** Rows that hold its messages. Nobody changes them until it has been handled. */
  readonly rows: readonly string[];
  /** Rows that are removed when it, and all before it in its lane, have been handled. */
  readonly release: readonly string[];
  /** For `open`. */
  readonly content: unknown;
  /** True: it is no window, and only releases rows. */
  readonly silent?: true;
}

/** What a handler is told of a window of rows, apart from its messages. */
export interface RowWindowFacts extends WindowBounds {
  readonly key?: string;
  readonly partial: boolean;
  readonly revision: number;
}

/** Values of rows as bytes. */
export interface ValueCodec {
  encode(value: unknown): Uint8Array;
  /** A value of the caller's own each time. */
  decode(bytes: Uint8Array): unknown;
}

/** A row of a stage's state. */
export interface StageRow {
  readonly slot: string;
  readonly value: unknown;
  /** Milliseconds since the epoch. */
  readonly due?: number | undefined;
}

/** The state of a stage as an attempt at a window sees and changes it. */
export interface StageChanges {
  /** The window's number: no window that was committed before has had it. */
  readonly seq: number;
  /** How many partitions the stream has, as far as this process knows. */
  readonly partitions: number;
  /** When the attempt began: by the clock, and monotonic; milliseconds. */
  readonly began: { readonly now: number; readonly monotonic: number };
  /** Rows have to be loaded before the other methods are called with their slots. Those of earlier windows may be in memory. */
  load(slots: Iterable<string>): Promise<void>;
  /** Undefined if there is no such row. A value may be changed in place, and has to be put then. */
  get(slot: string): unknown;
  /** @param due milliseconds since the epoch */
  put(slot: string, value: unknown, due?: number): void;
  remove(slot: string): void;
  /** Bytes of a value as stored, which is an object. It must not be changed afterwards, and is not encoded again when it is put. */
  sizeOf(value: object): number;
  /** Bytes that a message would take in the commit. */
  costOf(message: Omit<NewMessage, 'dedupeId'>): number;
  /** Bytes that all changes so far take in the commit. */
  readonly bytes: number;
  /** Bytes that they should have at the most. */
  readonly limit: number;
  /**
   * To be called before anything is done that can't be undone. An attempt that throws this is made again with fewer messages; a message that
   * is alone in its window becomes a dead letter.
   *
   * @param more bytes that are still to come @throws EffectsTooLarge
   */
  requireRoom(more?: number): void;
  /** Counts messages that come to nothing, on purpose. */
  drop(messages: number): void;
  /** The message of the window with this id, as its store gave it. */
  stored(id: string): StoredMessage;
  /** A window of rows, for the handler: it is claimed when this one is committed. Only of a stage that has `open`. */
  fire(window: RowWindow): void;
  /** Appends a message when the window is committed. */
  append(message: Omit<NewMessage, 'dedupeId'>): void;
  /** Rows that are due at this time or before, by `due` and slot, up to `most`; they are loaded. */
  due(before: number, most: number): Promise<readonly StageRow[]>;
  /** All rows but those that this attempt has changed, and fired windows, in pages; they are loaded. */
  pages(): AsyncIterable<readonly StageRow[]>;
  /** The due time of the row that is due next; undefined if none is. */
  nextDue(): Promise<number | undefined>;
  /** Called when the attempt is through: from then on its changes count for the windows that follow. */
  whenThrough(call: () => void): void;
}
