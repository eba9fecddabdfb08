import type { Held } from './content.js';
import { endOf, firstWindowOf, lastWindowOf, type PaneGrid } from './pane-grid.js';
import type { HoppingRules } from './window-rules.js';

/** What is known of the windows of a key. */
export interface ScheduleRow {
  readonly key: string;
  /** Those that have a row, in order. */
  panes: number[];
  /** The first window that has not been fired; those before it are done with. */
  next: number;
  /** Windows with a history of their own. */
  closed: ClosedWindow[];
  /** The last fired window that was not empty. */
  filled?: number;
}

/** A window that closed before it was fired, or whose result was given more than once. */
export interface ClosedWindow {
  readonly window: number;
  /** What it held when it closed; absent: nothing. Its panes may hold more by now, which came too late for it. */
  readonly held?: Held;
  /** Of the last result that was given; absent: none was. */
  revision?: number;
}

/** The arithmetic of hopping windows of one key. */
export class Schedule {
  constructor(
    readonly grid: PaneGrid,
    private readonly rules: HoppingRules,
    /** How long panes are kept for windows that were fired. */
    private readonly keep: number,
  ) {}

  /** The next window to fire; undefined if there is none before something comes. */
  nextWindow(row: ScheduleRow): number | undefined {
    const { grid, rules } = this;
    if (rules.empty === true) {
      let window = row.next;
      // Where clocks are put forward, a window may have no time at all.
      while (endOf(grid, window) === grid.start(window)) window += grid.hop;
      return window;
    }
    if (rules.empty === 'once' && this.wasFilled(row, row.next - grid.hop)) return row.next;
    return this.nextFilled(row);
  }

  /** The next window with messages. */
  nextFilled(row: ScheduleRow): number | undefined {
    const pane = row.panes.find((each) => lastWindowOf(this.grid, each) >= row.next);
    return pane === undefined ? undefined : Math.max(row.next, firstWindowOf(this.grid, pane));
  }

  panesIn(row: ScheduleRow, window: number): readonly number[] {
    return row.panes.filter((pane) => pane >= window && pane < window + this.grid.span);
  }

  closedOf(row: ScheduleRow, window: number): ClosedWindow | undefined {
    return row.closed.find((each) => each.window === window);
  }

  /** Whether a window that holds nothing is given out. */
  isGivenEmpty(row: ScheduleRow, window: number): boolean {
    const { empty } = this.rules;
    return empty === true || (empty === 'once' && this.wasFilled(row, window - this.grid.hop));
  }

  /** Whether the window had messages when it closed. */
  wasFilled(row: ScheduleRow, window: number): boolean {
    if (window < row.next) return row.filled === window;
    const closed = this.closedOf(row, window);
    return closed ? closed.held !== undefined : this.panesIn(row, window).length > 0;
  }

  addPane(row: ScheduleRow, pane: number): void {
    if (row.panes.includes(pane)) return;
    row.panes.push(pane);
    row.panes.sort((a, b) => a - b);
  }

  /** After the window was fired, or left out. */
  pass(row: ScheduleRow, window: number, wasFilled: boolean): void {
    row.next = window + this.grid.hop;
    if (wasFilled) row.filled = window;
  }

  /** Panes that no window needs any more. */
  takeUnneeded(row: ScheduleRow, mark: number): readonly number[] {
    const isNeeded = (pane: number) => {
      const last = lastWindowOf(this.grid, pane);
      return last >= row.next || mark < endOf(this.grid, last) + this.keep;
    };
    const leaving = row.panes.filter((pane) => !isNeeded(pane));
    if (leaving.length > 0) row.panes = row.panes.filter(isNeeded);
    row.closed = row.closed.filter(({ window }) => window >= row.next || mark < endOf(this.grid, window) + this.keep);
    return leaving;
  }

  /** When the row has something to do next; undefined: never, and it can go. */
  due(row: ScheduleRow): number | undefined {
    const next = this.nextWindow(row);
    const times = [
      ...(next === undefined ? [] : [endOf(this.grid, next)]),
      ...row.panes.slice(0, 1).map((pane) => endOf(this.grid, lastWindowOf(this.grid, pane)) + this.keep),
      ...row.closed.map(({ window }) => endOf(this.grid, window) + this.keep),
    ];
    return times.length === 0 ? undefined : Math.min(...times);
  }
}
