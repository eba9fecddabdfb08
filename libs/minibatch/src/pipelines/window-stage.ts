import type { StageChanges, ValueCodec } from '../engine/engine.interface.js';
import { type Look, Watermark, type WatermarkOptions, type WatermarkState } from '../flow/watermark.js';
import {
  type FailedItem,
  type FiredWindow,
  type Item,
  type LateItem,
  readInOrder,
  type StateView,
  type Step,
  type Taken,
  type TimedItem,
  type WindowLogic,
} from '../flow/window-logic.js';
import { decodeValue, encodeValue } from '../storage/encoded-message.js';
import { CountWindow } from '../windows/count.window.js';
import type { BufferedMessage } from '../windows/message.js';
import {
  type EmitterContext,
  type MessageView,
  type ReadPlan,
  type Selection,
  WindowEmitter,
} from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';

/** Where the watermark is stored; no slot of a window begins with it. */
const MARK = 'm/';
/** How rows are stored. */
export const ROWS: ValueCodec = {
  encode: encodeValue,
  decode: (bytes) => decodeValue(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)),
};
/** Rows that are fired in one step. */
const PAGE = 500;
/** Windows that are given out in one commit; the rest follows at once in the next one. */
const MOST_FIRED = 2_000;
/** Steps of one window of the engine have numbers of their own. */
const STEPS = 4_096;

/** The shape of the windows that are open. Undefined if none is. */
export async function openWindows(changes: StageChanges): Promise<string | undefined> {
  await changes.load([MARK]);
  const stored = changes.get(MARK) as StoredMark | undefined;
  if (!stored) return undefined;
  for await (const rows of changes.pages()) if (rows.some(({ slot }) => slot !== MARK)) return stored.shape ?? '';
  return undefined;
}

export interface WindowStageOptions {
  readonly logic: WindowLogic;
  readonly time: WatermarkOptions;
  /** What the rows look like. Others are refused while there are rows of an earlier shape. */
  readonly shape: string;
  /** What to throw then. */
  readonly changed: (stored: string) => Error;
}

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

/** What is stored of a stage as a whole. */
interface StoredMark extends WatermarkState {
  readonly shape?: string;
}

/** What was there when a window of the engine was cut. */
interface Cut {
  readonly look: Look;
  /** It took all that was there. */
  readonly isLast: boolean;
  readonly flushes: boolean;
}

/**
 * Strategy and handler of a stage with windows by key and time. Messages come in batches, one after another, and each batch puts its messages
 * into rows. When nothing comes and a row is due by the clock, there is a batch without messages, which fires it.
 *
 * One instance serves one partition; what it remembers goes with the lease, and is in the store.
 */
export class WindowStage extends WindowEmitter {
  /** Makes batches of messages. */
  private readonly batches = new CountWindow();
  /** As of the last batch that is through, and on from there while nothing comes. */
  private watermark: Watermark;
  /** No row is due before. Undefined: not known yet; Infinity: none is due. */
  private nextDue: number | undefined;
  /** By last message, or by the time of one without messages. */
  private readonly cuts = new Map<string, Cut>();
  private seen: { readonly length: number; readonly complete: boolean } & Look;
  private lastEmpty = -Infinity;
  private hasFlushed = false;
  /** The stream is to be flushed, or was while messages were on their way: then windows are given out after them. */
  private wantsFlush = false;
  /** A flush that takes several batches has begun, when the mark was here. */
  private flushedFrom: number | undefined;

  constructor(private readonly options: WindowStageOptions) {
    super();
    this.watermark = new Watermark(options.time);
    this.seen = { length: 0, complete: false, now: 0, monotonic: 0 };
  }

  override init(context: EmitterContext): void | Promise<void> {
    this.watermark = new Watermark(this.options.time);
    this.nextDue = undefined;
    this.cuts.clear();
    this.hasFlushed = false;
    this.wantsFlush = false;
    this.flushedFrom = undefined;
    return this.batches.init(context);
  }

  // ---- when there is a batch

  override observe(view: MessageView): void {
    this.batches.observe(view);
    const { length, complete, flushing, now, monotonic } = view;
    this.seen = { length, complete, now, monotonic };
    if (!flushing) this.hasFlushed = false;
    else if (!this.hasFlushed) this.wantsFlush = true;
    if (!complete) this.watermark.busy();
    else if (this.isIdle(view)) this.watermark.rest({ now, monotonic });
  }

  windowReady(view: MessageView): boolean {
    return this.batches.windowReady(view) || this.isDue(view) || this.mustFlush(view);
  }

  query(view: MessageView): readonly BufferedMessage[] | Selection {
    // While the stream is flushed, it is asked without `windowReady`.
    if (view.length === 0 && !this.isDue(view) && !this.mustFlush(view)) return [];
    // Its time tells it from others without messages.
    return view.length > 0
      ? this.batches.query(view)
      : { take: [], end: new Date(Math.max(view.now, this.lastEmpty + 1)) };
  }

  override emitted({ take, end }: Selection): void {
    const { length, complete, now, monotonic } = this.seen;
    const isLast = complete && take.length === length;
    const last = take.at(-1);
    if (!last && end) this.lastEmpty = end.getTime();
    const flushes = (this.wantsFlush || this.flushedFrom !== undefined) && !last;
    if (flushes) {
      this.hasFlushed = true;
      this.wantsFlush = false;
    }
    const key = last?.id ?? String(end?.getTime());
    this.cuts.set(key, { look: { now, monotonic }, isLast, flushes });
  }

  override nextCheck(view: MessageView): number | undefined {
    const check = this.batches.nextCheck(view);
    const due = this.checkDue(view);
    return check === undefined || due === undefined ? (check ?? due) : Math.min(check, due);
  }

  override reads(now: number, flushing?: boolean): ReadPlan {
    return this.batches.reads(now, flushing);
  }

  override onCommit(window: Window): void {
    // Also one that an operator has given up.
    this.cuts.delete(nameOf(window));
  }

  /** All that there is has been read and judged. */
  private isIdle(view: MessageView): boolean {
    return view.length === 0 && view.complete && view.workerFree && this.cuts.size === 0;
  }

  private isDue(view: MessageView): boolean {
    return this.isIdle(view) && (this.nextDue === undefined || this.nextDue <= this.watermark.value);
  }

  private mustFlush(view: MessageView): boolean {
    return (this.wantsFlush || this.flushedFrom !== undefined) && this.isIdle(view);
  }

  private checkDue(view: MessageView): number | undefined {
    const { nextDue } = this;
    const { mode, idle, wait } = this.options.time;
    if (!this.isIdle(view) || nextDue === undefined || nextDue === Infinity) return undefined;
    if (mode === 'processing') return nextDue + wait;
    const rest = nextDue - this.watermark.value;
    return idle === 'hold' || rest === Infinity ? undefined : view.now + Math.max(1, rest);
  }

  // ---- a batch

  async run(window: Window, changes: StageChanges, work: WindowWork): Promise<void> {
    const cut = this.cuts.get(nameOf(window));
    await changes.load([MARK]);
    const stored = changes.get(MARK) as StoredMark | undefined;
    const isFirst = this.nextDue === undefined;
    if (stored && stored.shape !== this.options.shape) {
      // Rows of another shape would be read as what they are not.
      const open = await openWindows(changes);
      if (open !== undefined) throw this.options.changed(open);
    }
    const draft = isFirst ? new Watermark(this.options.time, stored) : this.watermark.copy();
    const timed = readInOrder(work.items(), draft, changes.began);
    if (cut?.isLast) draft.rest(cut.look);
    else draft.busy();
    const batch = new Batch(this.options.logic, changes, work, draft);
    if (timed.length > 0) await batch.take(timed);
    const from = this.flushedFrom ?? draft.value;
    const flushed = cut?.flushes ? await batch.flush(from) : undefined;
    // At once: what comes before the rest is flushed must not go into windows that have been given out.
    if (flushed) draft.raise(flushed.raise);
    const known = isFirst ? await changes.nextDue() : this.nextDue;
    // The rest of a flush would be fired as if it had come to its end.
    const nextDue = flushed?.isDone === false ? -Infinity : await batch.fireDue(known ?? Infinity);
    this.store(draft, stored, changes);
    changes.whenThrough(() => {
      this.watermark = draft;
      this.nextDue = nextDue;
      this.cuts.delete(nameOf(window));
      if (flushed) this.flushedFrom = flushed.isDone ? undefined : from;
    });
  }

  private store({ state }: Watermark, stored: StoredMark | undefined, changes: StageChanges): void {
    const { shape } = this.options;
    if (state.mark === stored?.mark && state.max === stored?.max && shape === stored?.shape) return;
    changes.put(MARK, { ...state, shape } satisfies StoredMark);
  }
}

/** One batch on its way through the windows. */
class Batch {
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

function nameOf({ messages, end }: Window): string {
  return messages.at(-1)?.id ?? String(end?.getTime());
}
