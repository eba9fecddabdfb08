import { type Call, Drafts, type RowShape } from './call.js';
import type { ContentKind, Held } from './content.js';
import { endOf, nextStart, type PaneGrid } from './pane-grid.js';
import { keyFrom, type StoredKey, slotOf, storedKey } from './slot.js';
import type { StateView, TimedItem } from './window-logic.js';

/** What came too late for a window. */
interface LateRow {
  readonly key: string;
  readonly window: number;
  readonly held: Held;
  readonly due: number;
  /** The first item that was late for it. */
  readonly openedBy: string;
}

export const LATE = 'l';

/**
 * Late messages get windows of their own, with the bounds of those that they missed. They are gathered until the next window starts: a
 * thousand late messages are not a thousand windows, and the result is the same in whatever batches they come.
 */
export class LateWindows {
  private readonly shape: RowShape<LateRow>;

  constructor(
    private readonly content: ContentKind,
    private readonly grid: PaneGrid,
  ) {
    this.shape = {
      decode(value) {
        const { key, content: stored, ...facts } = value as StoredLate;
        return { ...facts, key: keyFrom(key), held: content.load(stored) };
      },
      encode({ key, held, ...facts }) {
        const value = { ...facts, key: storedKey(key), content: held.value } satisfies StoredLate;
        return { value, due: facts.due };
      },
    };
  }

  drafts(state: StateView): Drafts<LateRow> {
    return new Drafts(state, this.shape);
  }

  slot(key: string, window: number): string {
    return slotOf(LATE, key, window);
  }

  /** @throws what a function of the application throws; then nothing has changed */
  add(item: TimedItem, window: number, rows: Drafts<LateRow>, call: Call): void {
    const slot = this.slot(item.key, window);
    const before = rows.get(slot);
    const isOpen = before !== undefined && before.due > item.mark;
    const held = isOpen ? before.held : this.content.empty();
    this.content.add(held, item);
    if (before && !isOpen) this.fire(before, call);
    const due = isOpen ? before.due : nextStart(this.grid, item.mark);
    const openedBy = isOpen ? before.openedBy : item.id;
    rows.put(slot, { key: item.key, window, held, due, openedBy });
  }

  /** @param slot of a row of this kind */
  fireRow(slot: string, rows: Drafts<LateRow>, call: Call, partial = false): LateRow | undefined {
    const row = rows.get(slot);
    if (!row) return undefined;
    this.fire(row, call, partial);
    rows.remove(slot);
    return row;
  }

  finish(rows: Drafts<LateRow>, call: Call): void {
    for (const [, { held }] of rows.entries()) call.finish(held);
  }

  private fire({ key, window, held, openedBy }: LateRow, call: Call, partial = false): void {
    const bounds = { start: this.grid.start(window), end: endOf(this.grid, window) };
    const release = (given: Held) => this.content.rows(given);
    call.fire({ key, ...bounds, openedBy, revision: 0, late: true, partial }, () => held, release);
  }
}

interface StoredLate {
  readonly key: StoredKey;
  readonly window: number;
  readonly content: unknown;
  readonly due: number;
  readonly openedBy: string;
}
