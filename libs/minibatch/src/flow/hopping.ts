import { Call, Drafts, putEach, takeWithout } from './call.js';
import type { ContentKind, Held } from './content.js';
import {
  type PaneRow,
  paneShape,
  paneSlot,
  SCHEDULE,
  scheduleOf,
  scheduleShape,
  scheduleSlot,
} from './hopping-rows.js';
import { LATE, LateWindows } from './late-windows.js';
import { endOf, firstWindowOf, lastWindowOf, type PaneGrid, windowsOf } from './pane-grid.js';
import { Schedule, type ScheduleRow } from './schedule.js';
import { kindOf } from './slot.js';
import type { Bounds, FiredWindow, Row, Step, Taken, TimedItem, WindowLogic } from './window-logic.js';
import type { HoppingRules } from './window-rules.js';

/** Windows of a key that one call fires: what it writes stays small, and it is called again for the rest. */
const MOST_AT_ONCE = 100;

/** The rows that a call works on. */
interface Rows {
  readonly panes: Drafts<PaneRow>;
  readonly schedules: Drafts<ScheduleRow>;
  readonly late: ReturnType<LateWindows['drafts']>;
}

/** The windows of an item's pane, by what the item is to them. */
interface Windows {
  /** The first one that is open; undefined: none is. */
  readonly open: number | undefined;
  readonly closed: readonly number[];
  /** Those of `closed` whose result it changes. */
  readonly revised: readonly number[];
  /** The others of them, in which it has a late window. */
  readonly late: readonly number[];
  /** The rest, for which it goes elsewhere. */
  readonly missed: readonly number[];
}

/**
 * Windows of `interval` every `every`, by key. A message is stored once, in its pane, and a window is made of its panes when it is fired. One
 * row a pane, and one a key that knows the panes and is due at the end of the next window.
 *
 * A message may be late for one of its windows and not for the next. What is in such a window is noted before the message is put into the
 * pane that both have in common.
 */
export class HoppingWindows implements WindowLogic {
  private readonly schedule: Schedule;
  private readonly late: LateWindows;

  constructor(
    private readonly content: ContentKind,
    private readonly grid: PaneGrid,
    private readonly rules: HoppingRules,
  ) {
    this.schedule = new Schedule(grid, rules, content.revises ? rules.lateness : 0);
    this.late = new LateWindows(content, grid);
  }

  needs(items: readonly TimedItem[]): readonly string[] {
    const slots = new Set<string>();
    for (const { key, time, mark } of items) {
      const pane = this.grid.paneOf(time);
      const { open, closed, revised, late } = this.windowsFor(pane, mark);
      for (const window of late) slots.add(this.late.slot(key, window));
      if (open === undefined && revised.length === 0) continue;
      slots.add(scheduleSlot(key)).add(paneSlot(key, pane));
      // All that is in them has to be known before it changes. They overlap, so this is one range.
      const [first, last] = [closed[0] ?? 0, (closed.at(-1) ?? -this.grid.span) + this.grid.span];
      for (let each = first; each < last; each += 1) slots.add(paneSlot(key, each));
    }
    return [...slots];
  }

  take(items: readonly TimedItem[], step: Step): Taken {
    const attempt = (left: readonly TimedItem[], call: Call) => {
      const rows = this.rows(step);
      putEach(left, call, (item) => this.put(item, rows, call));
      for (const [, { held }] of rows.panes.entries()) call.finish(held);
      this.late.finish(rows.late, call);
      return () => this.save(rows);
    };
    return takeWithout(items, () => new Call(step, this.content), attempt);
  }

  needsToFire(due: readonly Row[], mark: number): readonly string[] {
    return this.schedulesIn(due).flatMap(({ row }) => {
      const copy = { ...row };
      let until = -Infinity;
      for (let count = 0; count < MOST_AT_ONCE; count += 1) {
        const window = this.schedule.nextWindow(copy);
        if (window === undefined || endOf(this.grid, window) > mark) break;
        this.schedule.pass(copy, window, this.schedule.wasFilled(copy, window));
        until = window + this.grid.span;
      }
      return row.panes.filter((pane) => pane < until).map((pane) => paneSlot(row.key, pane));
    });
  }

  fire(due: readonly Row[], step: Step): readonly FiredWindow[] {
    const call = new Call(step, this.content);
    const rows = this.rows(step);
    for (const { slot } of due) {
      if (kindOf(slot) === LATE) this.late.fireRow(slot, rows.late, call);
      else this.fireRow(slot, rows, call, step);
    }
    this.save(rows);
    return call.fired;
  }

  needsToFlush(rows: readonly Row[]): readonly string[] {
    return this.schedulesIn(rows).flatMap(({ row }) => row.panes.map((pane) => paneSlot(row.key, pane)));
  }

  flush(given: readonly Row[], step: Step): { readonly fired: readonly FiredWindow[]; readonly raise: number } {
    const call = new Call(step, this.content);
    const rows = this.rows(step);
    const { most = Infinity } = step;
    let raise = -Infinity;
    for (const { slot } of given) {
      if (kindOf(slot) === LATE) this.late.fireRow(slot, rows.late, call, true);
      else if (kindOf(slot) === SCHEDULE) {
        const row = rows.schedules.get(slot);
        if (!row) continue;
        for (let count = 0; count < most && this.schedule.nextFilled(row) !== undefined; count += 1) {
          const window = this.schedule.nextWindow(row);
          if (window === undefined) break;
          const end = endOf(this.grid, window);
          raise = Math.max(raise, end);
          this.fireWindow(row, window, Math.max(step.mark, end), rows, call, end > step.mark);
        }
        rows.schedules.put(slot, row);
      }
    }
    this.save(rows);
    return { fired: call.fired, raise };
  }

  private rows({ state }: Step): Rows {
    return {
      panes: new Drafts(state, paneShape(this.content)),
      schedules: new Drafts(state, scheduleShape(this.content, this.schedule)),
      late: this.late.drafts(state),
    };
  }

  private save({ panes, schedules, late }: Rows): void {
    for (const [slot, row] of schedules.entries()) {
      if (this.schedule.due(row) === undefined) schedules.remove(slot);
    }
    panes.save();
    schedules.save();
    late.save();
  }

  private schedulesIn(rows: readonly Row[]): readonly { readonly slot: string; readonly row: ScheduleRow }[] {
    return rows
      .filter(({ slot }) => kindOf(slot) === SCHEDULE)
      .map(({ slot, value }) => ({ slot, row: scheduleOf(value, this.content) }));
  }

  private windowsFor(pane: number, mark: number): Windows {
    const first = firstWindowOf(this.grid, pane);
    // As a rule, a message is on time for all of its windows.
    if (endOf(this.grid, first) > mark) return { open: first, closed: [], revised: [], late: [], missed: [] };
    const windows = windowsOf(this.grid, pane);
    const isOpen = (window: number) => endOf(this.grid, window) > mark;
    const isTaken = (window: number) => mark < endOf(this.grid, window) + this.rules.lateness;
    const closed = windows.filter((window) => !isOpen(window));
    const { revises } = this.content;
    const revised = closed.filter((window) => revises && isTaken(window));
    const others = closed.filter((window) => !revised.includes(window));
    const late = others.filter((window) => this.rules.lateWindows || isTaken(window));
    const missed = others.filter((window) => !late.includes(window));
    return { open: windows.find(isOpen), closed, revised, late, missed };
  }

  private put(item: TimedItem, rows: Rows, call: Call): void {
    const pane = this.grid.paneOf(item.time);
    const windows = this.windowsFor(pane, item.mark);
    const { open, revised, late, missed } = windows;
    const isTaken = open !== undefined || revised.length > 0;
    if (isTaken) this.putIntoPane(item, pane, windows, rows, call);
    for (const window of late) this.late.add(item, window, rows.late, call);
    if (late.length > 0 && !isTaken) call.lateTaken += 1;
    if (missed.length > 0) {
      call.late.push({
        item,
        windows: missed.map((window) => this.boundsOf(window)),
        taken: isTaken || late.length > 0,
      });
    }
  }

  private putIntoPane(item: TimedItem, pane: number, windows: Windows, rows: Rows, call: Call): void {
    const { open, closed, revised } = windows;
    const { key } = item;
    const found = rows.schedules.get(scheduleSlot(key));
    const row = found ?? { key, panes: [], next: open ?? Math.max(...closed) + this.grid.hop, closed: [] };
    const before = new Map(revised.map((window) => [window, this.schedule.panesIn(row, window).length > 0]));
    for (const window of closed) this.freeze(row, window, rows, call);
    const slot = paneSlot(key, pane);
    const paneRow = rows.panes.get(slot) ?? { key, pane, held: this.content.empty() };
    this.content.add(paneRow.held, item);
    for (const window of revised) this.giveFrozen(row, window, call);
    rows.panes.put(slot, paneRow);
    this.schedule.addPane(row, pane);
    if (open !== undefined) row.next = Math.min(row.next, open);
    for (const window of revised) this.revise(row, window, before.get(window) === true, rows, call);
    rows.schedules.put(scheduleSlot(key), row);
  }

  /** Notes what is in a window that has closed and has not been fired. */
  private freeze(row: ScheduleRow, window: number, rows: Rows, call: Call): void {
    if (window < row.next || this.schedule.closedOf(row, window)) return;
    const held = this.contentOf(row, window, rows, call);
    row.closed.push({ window, ...(held && { held }) });
  }

  /** The first result of a window that closed and was not fired, before the message that changes it. */
  private giveFrozen(row: ScheduleRow, window: number, call: Call): void {
    const closed = this.schedule.closedOf(row, window);
    if (!closed || closed.revision !== undefined) return;
    const { held } = closed;
    if (!held && !this.schedule.isGivenEmpty(row, window)) return;
    closed.revision = 0;
    call.fire({ ...this.factsOf(row, window), late: false, partial: false }, () => held ?? this.content.empty());
  }

  /** The whole result again. */
  private revise(row: ScheduleRow, window: number, wasGiven: boolean, rows: Rows, call: Call): void {
    let closed = this.schedule.closedOf(row, window);
    if (!closed) {
      closed = { window, ...(wasGiven && { revision: 0 }) };
      row.closed.push(closed);
    }
    closed.revision = closed.revision === undefined ? 0 : closed.revision + 1;
    const facts = { ...this.factsOf(row, window), revision: closed.revision, late: true, partial: false };
    call.fire(facts, () => this.contentOf(row, window, rows, call) ?? this.content.empty());
  }

  private fireRow(slot: string, rows: Rows, call: Call, { mark, most = MOST_AT_ONCE }: Step): void {
    const row = rows.schedules.get(slot);
    if (!row) return;
    for (let count = 0; count < Math.min(most, MOST_AT_ONCE); count += 1) {
      const window = this.schedule.nextWindow(row);
      if (window === undefined || endOf(this.grid, window) > mark) break;
      this.fireWindow(row, window, mark, rows, call, false);
    }
    this.dropPanes(row, mark, rows);
    rows.schedules.put(slot, row);
  }

  private fireWindow(row: ScheduleRow, window: number, mark: number, rows: Rows, call: Call, partial: boolean): void {
    const { schedule, content } = this;
    const closed = schedule.closedOf(row, window);
    const wasFilled = schedule.wasFilled(row, window);
    if (closed?.revision === undefined && (wasFilled || schedule.isGivenEmpty(row, window))) {
      call.fire(
        { ...this.factsOf(row, window), late: false, partial },
        () => (closed ? closed.held : this.contentOf(row, window, rows, call)) ?? content.empty(),
        () => this.leavingWith(row, window, rows),
      );
      if (closed) closed.revision = 0;
      // An empty result leaves no trace in the panes.
      else if (!wasFilled) row.closed.push({ window, revision: 0 });
    }
    schedule.pass(row, window, wasFilled);
    this.dropPanes(row, mark, rows);
  }

  /** What is in a window now; undefined: nothing. Its messages become rows that do not change. */
  private contentOf(row: ScheduleRow, window: number, rows: Rows, call: Call): Held | undefined {
    const parts: Held[] = [];
    for (const pane of this.schedule.panesIn(row, window)) {
      const slot = paneSlot(row.key, pane);
      const found = rows.panes.get(slot);
      if (!found) continue;
      if (this.content.seal(found.held, call.chunks)) rows.panes.put(slot, found);
      parts.push(found.held);
    }
    return parts.length === 0 ? undefined : this.content.merge(parts);
  }

  /** Rows of messages whose last window this is. */
  private leavingWith(row: ScheduleRow, window: number, rows: Rows): readonly string[] {
    return this.schedule.panesIn(row, window).flatMap((pane) => {
      if (lastWindowOf(this.grid, pane) !== window) return [];
      const found = rows.panes.get(paneSlot(row.key, pane));
      return found ? this.content.rows(found.held) : [];
    });
  }

  private dropPanes(row: ScheduleRow, mark: number, rows: Rows): void {
    for (const pane of this.schedule.takeUnneeded(row, mark)) rows.panes.remove(paneSlot(row.key, pane));
  }

  private factsOf({ key }: ScheduleRow, window: number): Bounds & { readonly key: string; readonly revision: number } {
    return { key, ...this.boundsOf(window), revision: 0 };
  }

  private boundsOf(window: number): Bounds {
    return { start: this.grid.start(window), end: endOf(this.grid, window) };
  }
}
