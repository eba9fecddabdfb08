import type { StageChanges } from '../engine/engine.interface.js';
import type { Mark } from '../flow/watermark.js';
import type {
  Entry,
  FailedItem,
  FiredWindow,
  Item,
  LateItem,
  StateView,
  Step,
  Taken,
  TimedItem,
  WindowLogic,
} from '../flow/window-logic.js';
import { StateDraft } from './state-draft.js';

/** Rows that are fired in one step. */
const PAGE = 500;
/** Windows that are given out in one commit; the rest follows at once in the next one. */
const MOST_FIRED = 2_000;
/** Steps of one window of the engine have numbers of their own. */
const STEPS = 1_048_576;
/** Bytes of a row from which on what is in it is weighed one by one: nothing in a smaller row is too large. */
const LARGE_ROW = 512 * 1024;
/** Bytes of a row: all that is open of a key in sessions and in windows by count. A commit has to have room for several. */
export const LARGEST_ROW = 4 * 1024 * 1024;

/** One attempt at a batch: where items come from, and where goes what the windows make of them. */
export interface WindowWork {
  /**
   * What is put into windows of these messages, in their order. Messages that something is wrong with are rejected there.
   */
  readonly entries: () => readonly Entry[];
  /** A window has closed, or its result has changed. */
  readonly fired: (fired: FiredWindow) => void;
  /** An item came too late for windows. */
  readonly late: (late: LateItem) => void;
  /** Whether a late item is given up: then nothing that was made of its message is in a window. */
  readonly givesUp: (late: LateItem) => boolean;
  /** A function threw at this item: nothing that was made of its message is in a window. */
  readonly failed: (failed: FailedItem) => void;
  /** What an item failed with that made a row too large. */
  readonly rowTooLarge: (item: Item, bytes: number) => unknown;
  /** True: it is given silent windows as well, which only release rows. */
  readonly takesSilent?: true;
  /** Bytes that what it has been given adds to the commit, apart from rows. Absent: none. */
  readonly bytes?: () => number;
  /** So many windows, those that it was given last, are given later: the commit has no room for them. */
  readonly takeBack?: (windows: number) => void;
}

/** Fires these rows, or some windows of each. */
type Fire = (step: Step) => readonly FiredWindow[];

/** One batch on its way through the windows. */
export class WindowBatch {
  private steps = 0;
  /** Least `due` of the rows that were put. */
  private leastDue = Infinity;
  /** Whether anything was given out, or taken, in this commit. */
  private isEmpty = true;

  constructor(
    private readonly logic: WindowLogic,
    private readonly changes: StageChanges,
    private readonly work: WindowWork,
    private readonly watermark: Mark,
  ) {}

  /** @throws EffectsTooLarge */
  async take(items: readonly TimedItem[]): Promise<void> {
    const { logic, changes, work } = this;
    await changes.load(logic.needs(items));
    this.isEmpty = false;
    const { late, failed, fired } = this.takeFitting(items);
    for (const each of failed) work.failed(each);
    for (const each of late) work.late(each);
    this.give(fired);
    changes.requireRoom(work.bytes?.());
  }

  /** Without messages that would make a row too large. Of one row that is full, others go on. */
  private takeFitting(items: readonly TimedItem[]): Taken {
    const light = new StateDraft(this.state);
    let [draft, taken] = [light, this.takeWhole(items, light, true)];
    let largest = draft.largest(this.changes);
    if (largest > LARGE_ROW) {
      draft = new StateDraft(this.state);
      taken = this.takeWhole(items, draft, false);
      largest = draft.largest(this.changes);
    }
    if (largest <= LARGEST_ROW) {
      draft.save();
      return taken;
    }
    const messages = [...new Set(items.map(({ message }) => message))];
    if (messages.length === 1) {
      const failed = items.slice(0, 1).map((item) => ({ item, error: this.work.rowTooLarge(item, largest) }));
      return { fired: [], late: [], lateTaken: 0, failed };
    }
    const first = new Set(messages.slice(0, messages.length >> 1));
    const [one, other] = [true, false].map((isFirst) => items.filter(({ message }) => first.has(message) === isFirst));
    return together(this.takeFitting(one ?? []), this.takeFitting(other ?? []));
  }

  /**
   * A message is in windows with all that was made of it, or with nothing: its dead letter holds all of it.
   *
   * @param isLight see `Step`
   */
  private takeWhole(items: readonly TimedItem[], target: StateDraft, isLight: boolean): Taken {
    const { logic, work } = this;
    if (!haveSiblings(items)) return logic.take(items, this.step(target, { isLight }));
    const failed: FailedItem[] = [];
    const late: LateItem[] = [];
    for (let left = items; ;) {
      const draft = new StateDraft(target);
      const taken = logic.take(left, this.step(draft, { isLight }));
      const given = taken.late.filter((each) => work.givesUp(each));
      const bad = new Set([...taken.failed, ...given].map(({ item }) => item.message.id));
      const others = left.filter(({ message }) => !bad.has(message.id));
      if (others.length === left.length) {
        draft.save();
        return { ...taken, failed: [...failed, ...taken.failed], late: [...late, ...taken.late] };
      }
      failed.push(...taken.failed);
      late.push(...given);
      left = others;
    }
  }

  /** Fires what is due, as long as there is room. Resolves with when the next row is due, at the earliest. */
  async fireDue(known: number): Promise<number> {
    const { logic, changes } = this;
    const mark = this.watermark.value;
    if (Math.min(known, this.leastDue) > mark) return Math.min(known, this.leastDue);
    for (let fired = 0; fired < MOST_FIRED;) {
      const due = await changes.due(mark, PAGE);
      if (due.length === 0) break;
      await changes.load(logic.needsToFire(due, mark));
      const { windows, isDone } = this.fireFitting(due, (rows) => (step) => logic.fire(rows, step));
      fired += Math.max(1, windows);
      if (!isDone) break;
    }
    return (await changes.nextDue()) ?? Infinity;
  }

  /**
   * Fires all windows there are. If there may be more, they are for the next batch.
   *
   * @param mark as it was when the flush began: windows that end later are partial
   */
  async flush(mark: number): Promise<{ readonly isDone: boolean; readonly raise: number }> {
    const { logic, changes } = this;
    let given = 0;
    let highest = -Infinity;
    for await (const rows of changes.pages()) {
      await changes.load(logic.needsToFlush(rows));
      const { windows, isDone } = this.fireFitting(rows, (some) => (step) => {
        const { fired, raise } = logic.flush(some, { ...step, mark });
        highest = Math.max(highest, raise);
        return fired;
      });
      given += windows;
      if (given >= MOST_FIRED || !isDone) return { isDone: false, raise: highest };
    }
    return { isDone: true, raise: highest };
  }

  /**
   * As many windows of these rows as the commit has room for. That is known when they have been made: if there are too many, it is done once more
   * with fewer, at last with one.
   */
  private fireFitting<R>(
    rows: readonly R[],
    fire: (rows: readonly R[]) => Fire,
  ): { readonly windows: number; readonly isDone: boolean } {
    let windows = 0;
    let isWhole = true;
    let size = rows.length;
    let most: number | undefined;
    for (let at = 0; at < rows.length;) {
      const some = rows.slice(at, at + size);
      const draft = new StateDraft(this.state);
      const fired = fire(some)(this.step(draft, { most }));
      const given = this.give(fired);
      if (this.isEmpty && some.length === 1 && most === 1 ? true : this.hasRoomFor(draft)) {
        draft.save();
        windows += given;
        at += some.length;
        if (most !== undefined) isWhole = false;
        if (given > 0) this.isEmpty = false;
        continue;
      }
      this.work.takeBack?.(given);
      if (some.length > 1) size = Math.ceil(some.length / 2);
      else if (given > 1) most = Math.ceil(given / 2);
      else if (this.isEmpty) most = 1;
      else return { windows, isDone: false };
    }
    return { windows, isDone: isWhole };
  }

  private hasRoomFor(draft: StateDraft): boolean {
    const { changes, work } = this;
    return changes.bytes + (work.bytes?.() ?? 0) + draft.bytes(changes) <= changes.limit;
  }

  /** @returns how many there are */
  private give(fired: readonly FiredWindow[]): number {
    const windows = this.work.takesSilent ? fired : fired.filter(({ silent }) => !silent);
    for (const each of windows) this.work.fired(each);
    return windows.length;
  }

  private readonly state: StateView = {
    get: (slot) => this.changes.get(slot),
    put: (slot, value, due) => {
      if (due !== undefined) this.leastDue = Math.min(this.leastDue, due);
      this.changes.put(slot, value, due);
    },
    remove: (slot) => this.changes.remove(slot),
  };

  private step(state: StateView, more: Pick<Step, 'isLight' | 'most'>): Step {
    const number = this.changes.seq * STEPS + this.steps;
    this.steps += 1;
    return { state, number, mark: this.watermark.value, ...more };
  }
}

function together(one: Taken, other: Taken): Taken {
  return {
    fired: [...one.fired, ...other.fired],
    late: [...one.late, ...other.late],
    lateTaken: one.lateTaken + other.lateTaken,
    failed: [...one.failed, ...other.failed],
  };
}

/** Whether several items were made of one message. */
function haveSiblings(items: readonly TimedItem[]): boolean {
  return items.some(({ message }, index) => index > 0 && items[index - 1]?.message === message);
}
