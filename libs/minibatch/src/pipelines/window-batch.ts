import type { StageChanges } from '../engine/engine.interface.js';
import type { Watermark } from '../flow/watermark.js';
import type {
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

/** Rows that are fired in one step. */
const PAGE = 500;
/** Windows that are given out in one commit; the rest follows at once in the next one. */
const MOST_FIRED = 2_000;
/** Steps of one window of the engine have numbers of their own. */
const STEPS = 4_096;

/** One attempt at a batch: where items come from, and where goes what the windows make of them. */
export interface WindowWork {
  /**
   * What is put into windows of these messages, in their order. Messages that something is wrong with are rejected there.
   */
  readonly items: () => readonly Item[];
  /** A window has closed, or its result has changed. */
  readonly fired: (fired: FiredWindow) => void;
  /** An item came too late for windows. */
  readonly late: (late: LateItem) => void;
  /** Whether a late item is given up: then nothing that was made of its message is in a window. */
  readonly givesUp: (late: LateItem) => boolean;
  /** A function threw at this item: nothing that was made of its message is in a window. */
  readonly failed: (failed: FailedItem) => void;
}

/** One batch on its way through the windows. */
export class WindowBatch {
  private steps = 0;
  /** Least `due` of the rows that were put. */
  private leastDue = Infinity;

  constructor(
    private readonly logic: WindowLogic,
    private readonly changes: StageChanges,
    private readonly work: WindowWork,
    private readonly watermark: Watermark,
  ) {}

  async take(items: readonly TimedItem[]): Promise<void> {
    const { logic, changes } = this;
    await changes.load(logic.needs(items));
    const { taken, failed } = haveSiblings(items) ? this.takeWhole(items) : { taken: this.takeAll(items), failed: [] };
    for (const each of [...failed, ...taken.failed]) this.work.failed(each);
    for (const late of taken.late) this.work.late(late);
    this.give(taken.fired);
  }

  private takeAll(items: readonly TimedItem[], state: StateView = this.state): Taken {
    return this.logic.take(items, this.step(state));
  }

  /**
   * A message is in windows with all that was made of it, or with nothing: its dead letter holds all of it.
   */
  private takeWhole(items: readonly TimedItem[]): { readonly taken: Taken; readonly failed: readonly FailedItem[] } {
    const failed: FailedItem[] = [];
    const late: LateItem[] = [];
    for (let left = items; ;) {
      const draft = new StateDraft(this.state);
      const taken = this.takeAll(left, draft);
      const given = taken.late.filter((each) => this.work.givesUp(each));
      const bad = new Set([...taken.failed, ...given].map(({ item }) => item.message.id));
      const others = left.filter(({ message }) => !bad.has(message.id));
      if (others.length === left.length) {
        draft.save();
        return { taken: { ...taken, late: [...late, ...taken.late] }, failed };
      }
      failed.push(...taken.failed);
      late.push(...given);
      left = others;
    }
  }

  /** Fires what is due. Resolves with when the next row is due, at the earliest. */
  async fireDue(known: number): Promise<number> {
    const { logic } = this;
    const mark = this.watermark.value;
    if (Math.min(known, this.leastDue) > mark) return Math.min(known, this.leastDue);
    for (let fired = 0; fired < MOST_FIRED;) {
      const due = await this.changes.due(mark, PAGE);
      if (due.length === 0) break;
      await this.changes.load(logic.needsToFire(due, mark));
      const windows = logic.fire(due, this.step());
      this.give(windows);
      fired += Math.max(1, windows.length);
    }
    return (await this.changes.nextDue()) ?? Infinity;
  }

  /**
   * Fires all windows there are. If there may be more, they are for the next batch.
   *
   * @param mark as it was when the flush began: windows that end later are partial
   */
  async flush(mark: number): Promise<{ readonly isDone: boolean; readonly raise: number }> {
    const { logic } = this;
    let given = 0;
    let highest = -Infinity;
    for await (const rows of this.changes.pages()) {
      await this.changes.load(logic.needsToFlush(rows));
      const { fired, raise } = logic.flush(rows, { ...this.step(), mark });
      highest = Math.max(highest, raise);
      this.give(fired);
      given += fired.length;
      if (given >= MOST_FIRED) return { isDone: false, raise: highest };
    }
    return { isDone: true, raise: highest };
  }

  private give(windows: readonly FiredWindow[]): void {
    for (const fired of windows) if (!fired.silent) this.work.fired(fired);
  }

  private readonly state: StateView = {
    get: (slot) => this.changes.get(slot),
    put: (slot, value, due) => {
      if (due !== undefined) this.leastDue = Math.min(this.leastDue, due);
      this.changes.put(slot, value, due);
    },
    remove: (slot) => this.changes.remove(slot),
  };

  private step(state: StateView = this.state): Step {
    const number = this.changes.seq * STEPS + this.steps;
    this.steps += 1;
    return { state, number, mark: this.watermark.value };
  }
}

/** Rows as a step that may be made once more leaves them. */
class StateDraft implements StateView {
  /** Undefined: it is removed. */
  private readonly changed = new Map<
    string,
    { readonly value: unknown; readonly due: number | undefined } | undefined
  >();

  constructor(private readonly state: StateView) {}

  get(slot: string): unknown {
    return this.changed.has(slot) ? this.changed.get(slot)?.value : this.state.get(slot);
  }

  put(slot: string, value: unknown, due?: number): void {
    this.changed.set(slot, { value, due });
  }

  remove(slot: string): void {
    this.changed.set(slot, undefined);
  }

  save(): void {
    for (const [slot, row] of this.changed) {
      if (row) this.state.put(slot, row.value, row.due);
      else this.state.remove(slot);
    }
  }
}

/** Whether several items were made of one message. */
function haveSiblings(items: readonly TimedItem[]): boolean {
  return items.some(({ message }, index) => index > 0 && items[index - 1]?.message === message);
}
