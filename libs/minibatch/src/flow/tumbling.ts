import { Call, Drafts, putEach, type RowShape, takeWithout } from './call.js';
import type { ContentKind, Held } from './content.js';
import { LATE, LateWindows } from './late-windows.js';
import { endOf, type PaneGrid } from './pane-grid.js';
import { keyFrom, kindOf, slotOf, type StoredKey, storedKey } from './slot.js';
import type { LateRules } from './window-rules.js';
import type { FiredWindow, Row, StateView, Step, Taken, TimedItem, WindowLogic } from './window-logic.js';

/** A window of a key. */
interface PaneRow {
  readonly key: string;
  readonly pane: number;
  readonly held: Held;
  /** Of the last result that was given; absent: none was. */
  revision?: number;
}

interface StoredPane {
  readonly key: StoredKey;
  readonly pane: number;
  readonly content: unknown;
  readonly revision?: number;
}

const PANE = 'w';

/**
 * Windows side by side, by key: a message is in one, [start, end). One row a window, which is due at its end.
 *
 * A window of aggregates that was fired stays for `lateness`: each message that comes for it gives the whole result again.
 */
export class TumblingWindows implements WindowLogic {
  private readonly late: LateWindows;
  private readonly shape: RowShape<PaneRow>;

  /** @param grid with one pane a window */
  constructor(
    private readonly content: ContentKind,
    private readonly grid: PaneGrid,
    private readonly rules: LateRules,
  ) {
    this.late = new LateWindows(content, grid);
    this.shape = {
      decode(value) {
        const { key, pane, content: stored, revision } = value as StoredPane;
        return { key: keyFrom(key), pane, held: content.load(stored), ...(revision !== undefined && { revision }) };
      },
      encode: ({ key, pane, held, revision }) => ({
        value: {
          key: storedKey(key),
          pane,
          content: held.value,
          ...(revision !== undefined && { revision }),
        } satisfies StoredPane,
        due: endOf(grid, pane) + (revision === undefined ? 0 : rules.lateness),
      }),
    };
  }

  needs(items: readonly TimedItem[]): readonly string[] {
    const slots = new Set<string>();
    for (const item of items) {
      const pane = this.grid.paneOf(item.time);
      const place = this.placeOf(item, pane);
      if (place === 'late') slots.add(this.late.slot(item.key, pane));
      else if (place !== 'elsewhere') slots.add(slotOf(PANE, item.key, pane));
    }
    return [...slots];
  }

  take(items: readonly TimedItem[], step: Step): Taken {
    const attempt = (left: readonly TimedItem[], call: Call) => {
      const rows = this.drafts(step.state);
      const lateRows = this.late.drafts(step.state);
      putEach(left, call, (item) => this.put(item, rows, lateRows, call));
      for (const [, { held }] of rows.entries()) call.finish(held);
      this.late.finish(lateRows, call);
      return () => {
        rows.save();
        lateRows.save();
      };
    };
    return takeWithout(items, () => new Call(step, this.content), attempt);
  }

  needsToFire(): readonly string[] {
    return [];
  }

  fire(due: readonly Row[], step: Step): readonly FiredWindow[] {
    const call = new Call(step, this.content);
    const rows = this.drafts(step.state);
    const lateRows = this.late.drafts(step.state);
    for (const { slot } of due) {
      if (kindOf(slot) === LATE) this.late.fireRow(slot, lateRows, call);
      else this.fireRow(slot, rows, step.mark, call);
    }
    rows.save();
    lateRows.save();
    return call.fired;
  }

  needsToFlush(): readonly string[] {
    return [];
  }

  flush(given: readonly Row[], step: Step): { readonly fired: readonly FiredWindow[]; readonly raise: number } {
    const call = new Call(step, this.content);
    const rows = this.drafts(step.state);
    const lateRows = this.late.drafts(step.state);
    let raise = -Infinity;
    for (const { slot } of given) {
      if (kindOf(slot) === LATE) this.late.fireRow(slot, lateRows, call, true);
      else if (kindOf(slot) === PANE) {
        const row = rows.get(slot);
        if (row?.revision !== undefined || !row) continue;
        raise = Math.max(raise, endOf(this.grid, row.pane));
        this.fireWindow(row, call, { partial: endOf(this.grid, row.pane) > step.mark, late: false });
        this.keep(slot, row, Math.max(raise, step.mark), rows);
      }
    }
    rows.save();
    lateRows.save();
    return { fired: call.fired, raise };
  }

  private drafts(state: StateView): Drafts<PaneRow> {
    return new Drafts(state, this.shape);
  }

  /** Where an item goes: to its window, to the result of it that was given, to a late window, or to where `late` says. */
  private placeOf({ mark }: TimedItem, pane: number): 'window' | 'result' | 'late' | 'elsewhere' {
    const end = endOf(this.grid, pane);
    if (end > mark) return 'window';
    const isTaken = mark < end + this.rules.lateness;
    if (isTaken && this.content.revises) return 'result';
    return isTaken || this.rules.lateWindows ? 'late' : 'elsewhere';
  }

  private put(item: TimedItem, rows: Drafts<PaneRow>, lateRows: ReturnType<LateWindows['drafts']>, call: Call): void {
    const pane = this.grid.paneOf(item.time);
    const place = this.placeOf(item, pane);
    if (place === 'elsewhere') {
      const windows = [{ start: this.grid.start(pane), end: endOf(this.grid, pane) }];
      call.late.push({ item, windows, taken: false });
      return;
    }
    if (place === 'late') {
      this.late.add(item, pane, lateRows, call);
      call.lateTaken += 1;
      return;
    }
    const slot = slotOf(PANE, item.key, pane);
    const found = rows.get(slot);
    const row: PaneRow = found ?? { key: item.key, pane, held: this.content.empty() };
    // What it holds closed before the item came, even if nobody has fired it yet.
    const unfired = place === 'result' && found && found.revision === undefined;
    const before = unfired ? this.content.merge([row.held]) : undefined;
    this.content.add(row.held, item);
    if (before) this.fireWindow({ ...row, held: before }, call, { partial: false, late: false });
    if (unfired) row.revision = 0;
    if (place === 'result') {
      row.revision = row.revision === undefined ? 0 : row.revision + 1;
      this.fireWindow(row, call, { partial: false, late: true });
    }
    rows.put(slot, row);
  }

  private fireRow(slot: string, rows: Drafts<PaneRow>, mark: number, call: Call): void {
    const row = rows.get(slot);
    if (!row) return;
    if (row.revision === undefined) this.fireWindow(row, call, { partial: false, late: false });
    this.keep(slot, row, mark, rows);
  }

  /** A fired window, for as long as messages for it change its result. */
  private keep(slot: string, row: PaneRow, mark: number, rows: Drafts<PaneRow>): void {
    const isKept = this.content.revises && mark < endOf(this.grid, row.pane) + this.rules.lateness;
    if (!isKept) rows.remove(slot);
    else {
      row.revision ??= 0;
      rows.put(slot, row);
    }
  }

  private fireWindow(row: PaneRow, call: Call, facts: Pick<FiredWindow, 'partial' | 'late'>): void {
    const { key, pane, held, revision = 0 } = row;
    const bounds = { start: this.grid.start(pane), end: endOf(this.grid, pane) };
    call.fire(
      { key, ...bounds, revision, ...facts },
      () => held,
      (given) => this.content.rows(given),
    );
  }
}
