import { Call, Drafts, putEach, type RowShape, takeWithout } from './call.js';
import type { ContentKind, Held } from './content.js';
import { greatestCommonDivisor } from './pane-grid.js';
import { keyFrom, kindOf, slotOf, type StoredKey, storedKey } from './slot.js';
import type { FiredWindow, Row, StateView, Step, Taken, TimedItem, WindowLogic } from './window-logic.js';
import type { CountRules } from './window-rules.js';

/** Messages that came one after another. */
interface Pane {
  size: number;
  readonly held: Held;
}

interface CountRow {
  readonly key: string;
  /** In read order; all are full but for the last. */
  panes: Pane[];
  /** Messages since a window was due last. */
  count: number;
  /** The first of them, or of those before. */
  openedBy: string;
  /** When the key has waited for too long. */
  due: number;
  /** Whether it has had a window: then all messages before the last `count` have been in one. */
  isGiven: boolean;
}

interface StoredCount {
  readonly key: StoredKey;
  readonly panes: readonly { readonly size: number; readonly content: unknown }[];
  readonly count: number;
  readonly openedBy: string;
  readonly due?: number;
  readonly isGiven?: true;
}

const COUNT = 'n';

/**
 * By key, the last `size` messages after every `every`, in read order. One row a key, and it has panes as windows by time do: of
 * aggregates, as many messages as all windows begin and end with; of messages themselves, as many as come between two windows, and a
 * window leaves out the first few.
 *
 * A key whose window is not full after `interval` gets it as it is; then nothing is known of the key any more.
 */
export class CountWindows implements WindowLogic {
  private readonly pane: number;
  /** The same before the first window: a wait or a flush may end it when more messages are there than a window holds, and it begins anywhere then. */
  private readonly firstPane: number;
  private readonly shape: RowShape<CountRow>;

  constructor(
    private readonly content: ContentKind,
    private readonly rules: CountRules,
  ) {
    this.pane = content.revises ? greatestCommonDivisor(rules.size, rules.every) : rules.every;
    const mayHoldMore = content.revises && !rules.partial && rules.size % rules.every > 0;
    this.firstPane = mayHoldMore ? 1 : this.pane;
    this.shape = {
      decode(value) {
        const { key, panes, count, openedBy, due = Infinity, isGiven = false } = value as StoredCount;
        const held = panes.map(({ size, content: stored }) => ({ size, held: content.load(stored) }));
        return { key: keyFrom(key), panes: held, count, openedBy, due, isGiven };
      },
      encode: ({ key, panes, count, openedBy, due, isGiven }) => ({
        value: {
          key: storedKey(key),
          panes: panes.map(({ size, held }) => ({ size, content: held.value })),
          count,
          openedBy,
          ...(due < Infinity && { due }),
          ...(isGiven && { isGiven }),
        } satisfies StoredCount,
        due: due < Infinity ? due : undefined,
      }),
    };
  }

  needs(items: readonly TimedItem[]): readonly string[] {
    return [...new Set(items.map(({ key }) => slotOf(COUNT, key)))];
  }

  take(items: readonly TimedItem[], step: Step): Taken {
    const attempt = (left: readonly TimedItem[], call: Call) => {
      const rows = this.drafts(step.state);
      putEach(left, call, (item) => this.put(item, rows, call));
      for (const [, { panes }] of rows.entries()) for (const { held } of panes) call.finish(held);
      return () => rows.save();
    };
    return takeWithout(items, () => new Call(step, this.content), attempt);
  }

  needsToFire(): readonly string[] {
    return [];
  }

  fire(due: readonly Row[], step: Step): readonly FiredWindow[] {
    const call = new Call(step, this.content);
    const rows = this.drafts(step.state);
    for (const { slot } of due) this.end(slot, rows, call);
    rows.save();
    return call.fired;
  }

  needsToFlush(): readonly string[] {
    return [];
  }

  flush(given: readonly Row[], step: Step): { readonly fired: readonly FiredWindow[]; readonly raise: number } {
    return {
      fired: this.fire(
        given.filter(({ slot }) => kindOf(slot) === COUNT),
        step,
      ),
      raise: -Infinity,
    };
  }

  private drafts(state: StateView): Drafts<CountRow> {
    return new Drafts(state, this.shape);
  }

  private put(item: TimedItem, rows: Drafts<CountRow>, call: Call): void {
    const { key, time, mark } = item;
    const slot = slotOf(COUNT, key);
    const waited = rows.get(slot);
    // It has ended by now, even if nobody has fired it yet.
    if (waited && waited.due <= mark) this.end(slot, rows, call);
    const row = rows.get(slot) ?? { key, panes: [], count: 0, openedBy: '', due: Infinity, isGiven: false };
    const last = row.panes.at(-1);
    const isFull = row.count % (row.isGiven ? this.pane : this.firstPane) === 0;
    const pane = last && !isFull ? last : { size: 0, held: this.content.empty() };
    this.content.add(pane.held, item);
    if (pane !== last) row.panes.push(pane);
    pane.size += 1;
    row.count += 1;
    if (row.count === 1) {
      row.due = time + this.rules.longest;
      row.openedBy = item.id;
    }
    if (row.count === this.rules.every) {
      this.complete(row, call);
      row.due = time + this.rules.longest;
    }
    if (row.panes.length === 0) rows.remove(slot);
    else rows.put(slot, row);
  }

  /** Enough messages have come since the last window. */
  private complete(row: CountRow, call: Call): void {
    const { size, every, partial } = this.rules;
    row.count = 0;
    const held = heldMessages(row);
    if (held < size && !partial) return;
    const leaving = leadingPanes(row, held - (size - every));
    this.give(row, size, leaving, call, held < size);
    row.panes = row.panes.slice(leaving.length);
  }

  /** The key has waited for too long. */
  private end(slot: string, rows: Drafts<CountRow>, call: Call): void {
    const row = rows.get(slot);
    if (!row) return;
    // With nothing new, its messages have all been in a window.
    if (row.count === 0 && row.isGiven) call.release(row.key, this.rowsOf(row.panes));
    else {
      const { size, every } = this.rules;
      // Of what was in windows before, what would have been in the next one.
      this.give(row, row.isGiven ? size - every + row.count : size, row.panes, call, true);
    }
    rows.remove(slot);
  }

  /** @param most messages of the window @param leaving panes that are in no later window */
  private give(row: CountRow, most: number, leaving: readonly Pane[], call: Call, partial: boolean): void {
    const tooMany = Math.max(0, heldMessages(row) - most);
    const before = leadingPanes(row, tooMany);
    const panes = row.panes.slice(before.length).map(({ held }) => held);
    for (const { held } of row.panes) this.content.seal(held, call.chunks);
    row.isGiven = true;
    call.fire(
      { key: row.key, openedBy: row.openedBy, revision: 0, late: false, partial },
      () => this.content.merge(panes),
      () => this.rowsOf(leaving),
      tooMany - before.reduce((sum, { size }) => sum + size, 0),
    );
  }

  private rowsOf(panes: readonly Pane[]): readonly string[] {
    return panes.flatMap(({ held }) => this.content.rows(held));
  }
}

/** The panes that lie within the first so many messages. */
function leadingPanes({ panes }: CountRow, messages: number): readonly Pane[] {
  let sum = 0;
  const end = panes.findIndex(({ size }) => (sum += size) > messages);
  return end < 0 ? panes : panes.slice(0, end);
}

function heldMessages({ panes }: CountRow): number {
  return panes.reduce((sum, { size }) => sum + size, 0);
}
