import type { FailedItem, FiredWindow, StateView, TimedItem } from './window-logic.js';

/** What a pane, a session or a late window holds, while a step works on it. */
export interface Held {
  /** As it is stored. */
  value: unknown;
  /** True once it is a copy of this step: until then it belongs to the row that it came from. */
  isOwn: boolean;
  /** To take an item back: the value when the step came to it, and what was added since. */
  before: unknown;
  added: TimedItem[];
}

/** Where rows of messages are written during a call. */
export class ChunkWriter {
  private count = 0;

  /** @param number no committed call has had it */
  constructor(
    private readonly state: StateView,
    private readonly number: number,
  ) {}

  /** @returns the slot */
  put(chunk: unknown): string {
    const slot = `c/${this.number}/${this.count++}`;
    this.state.put(slot, chunk);
    return slot;
  }
}

/**
 * What windows are made of: an accumulator, or the messages themselves. Tumbling, hopping and session windows, and those by count, know
 * nothing of the difference.
 */
export interface ContentKind {
  /** True: a message that is late, but within `lateness`, changes the window's result. False: it is in a late window of its own. */
  readonly revises: boolean;
  empty(): Held;
  /** Of a stored value, which is not changed. */
  load(value: unknown): Held;
  /** @throws what a function of the application throws; then nothing has changed */
  add(held: Held, item: TimedItem): void;
  /** All of them in one; they are not changed. @throws what a function of the application throws */
  merge(held: readonly Held[]): Held;
  /** Makes its messages rows that do not change any more, so that several windows can share them. True if it has changed. */
  seal(held: Held, chunks: ChunkWriter): boolean;
  /** What is given out, of a sealed one. */
  given(held: Held): Pick<FiredWindow, 'value' | 'failed' | 'parts' | 'content'>;
  /** The rows that it names, to be removed once it has been handled. */
  rows(held: Held): readonly string[];
  /**
   * Before it is stored.
   *
   * @param isLight its size need not be known: see `Step`
   * @returns items that have made it too large: it must not be stored with them
   */
  finish(held: Held, chunks: ChunkWriter, isLight?: boolean): readonly FailedItem[];
}

/** @param isOwn false: the value belongs to a row, and is copied before it is changed */
export function heldOf(value: unknown, isOwn: boolean): Held {
  return { value, isOwn, before: undefined, added: [] };
}
