import * as BSON from 'bson';
import { BsonDecoder } from '../storage/bson-decoder.js';
import type { Aggregate } from './aggregates.js';
import { AggregateContent } from './aggregate-content.js';
import { CollectContent, partsOf } from './collect-content.js';
import type { ContentKind } from './content.js';
import type { Event, Expected, Happening, Message, Missed, Outcome } from './reference.spec.support.js';
import { Watermark, type WatermarkOptions } from './watermark.js';
import {
  type FailedItem,
  type FiredWindow,
  type Item,
  readInOrder,
  type Row,
  type StateView,
  type WindowLogic,
} from './window-logic.js';

const decoder = new BsonDecoder(BSON);
const encode = (value: unknown) => Buffer.from(BSON.serialize({ value }, { ignoreUndefined: true }));
const decode = (bytes: Buffer) => freeze(decoder.document<{ value: unknown }>(bytes, 'bigint').value);

/** Nothing that was got from a row may be changed. */
function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !ArrayBuffer.isView(value)) {
    Object.values(value).forEach(freeze);
    Object.freeze(value);
  }
  return value;
}

interface Stored {
  readonly bytes: Buffer;
  readonly due: number | undefined;
}

/** How the same messages are worked on. */
export interface Course {
  /** Sizes of batches, again and again. */
  readonly batches: readonly number[];
  /** Sizes of pages of due rows, again and again. */
  readonly pages: readonly number[];
  /** After how many batches due rows are fired, again and again; 0: at once. */
  readonly waits: readonly number[];
  /** Whether a step is done twice, as after a crash, again and again. */
  readonly repeats: readonly boolean[];
  /** After how many fired windows the oldest ones are handled, again and again. */
  readonly handled: readonly number[];
}

export const PLAIN: Course = { batches: [1], pages: [100], waits: [0], repeats: [false], handled: [0] };

function cycle<T>(values: readonly T[], otherwise: T): () => T {
  let at = 0;
  return () => (values.length === 0 ? otherwise : (values[at++ % values.length] ?? otherwise));
}

/** Ids in order, by a function that changes its accumulator. */
export const ids: Aggregate<unknown, string[], readonly string[]> = {
  init: () => [],
  add: (acc, _data, _message, { id }) => void acc.push(id),
  merge: (into, from) => void into.push(...from),
  result: (acc) => acc.sort(),
};

export function contentOf(kind: 'aggregate' | 'collect'): ContentKind {
  const limit = { most: 1e6, sizeOf: (value: unknown) => encode(value).length, tooLarge: () => new Error('too large') };
  return kind === 'collect'
    ? new CollectContent()
    : new AggregateContent(ids as Aggregate<unknown, unknown, unknown>, limit);
}

/** What an engine does around the logic of windows: reads rows, takes, fires, commits, and now and then crashes before it commits. */
export class Machine {
  readonly rows = new Map<string, Stored>();
  readonly windows: Expected[] = [];
  readonly fired: FiredWindow[] = [];
  readonly missed: Missed[] = [];
  readonly failed: FailedItem[] = [];
  lateTaken = 0;
  watermark: Watermark;
  /** Fired, and not handled yet. */
  private readonly waiting: FiredWindow[] = [];
  private readonly next: { readonly [K in keyof Course]: () => Course[K][number] };
  /** What results are known by. */
  private readonly names = new Set<string>();
  private readonly options: WatermarkOptions;
  private step = 0;
  private clock = 0;

  constructor(
    private readonly logic: WindowLogic,
    options: Pick<WatermarkOptions, 'wait'>,
    course: Course = PLAIN,
    private readonly order: 'time' | 'append' = 'time',
  ) {
    this.options = { mode: 'event', idle: 'advance', maxAhead: 1e13, ...options };
    this.watermark = new Watermark(this.options);
    this.next = {
      batches: cycle(course.batches, 1),
      pages: cycle(course.pages, 1),
      waits: cycle(course.waits, 0),
      repeats: cycle(course.repeats, false),
      handled: cycle(course.handled, 0),
    };
  }

  get outcome(): Outcome {
    return { windows: this.windows, missed: this.missed };
  }

  run(events: readonly Event[], end: number): Outcome {
    let wait = this.next.waits();
    for (let at = 0; at < events.length;) {
      const some = events.slice(at, at + Math.max(1, this.next.batches()));
      const happening = some.findIndex((each) => !('time' in each));
      const batch = (happening < 0 ? some : some.slice(0, happening)) as readonly Message[];
      if (batch.length > 0) this.take(batch);
      else this.undergo(some[0] as Happening);
      at += Math.max(1, batch.length);
      if (wait-- > 0) continue;
      this.fireAll();
      wait = this.next.waits();
    }
    this.close(end);
    return this.outcome;
  }

  private undergo(happening: Happening): void {
    if ('flush' in happening) {
      // What is due is fired first: an engine flushes when it has nothing else to do.
      this.fireAll();
      this.flush();
      return;
    }
    if ('takeover' in happening) {
      this.watermark = new Watermark(this.options, this.watermark.state);
      return;
    }
    const isQuiet = 'quiet' in happening;
    this.watermark.rest({ now: 0, monotonic: this.clock });
    if (!isQuiet) this.watermark.busy();
    this.clock += isQuiet ? happening.quiet : happening.backlog;
    this.watermark.rest({ now: 0, monotonic: this.clock });
    this.watermark.busy();
  }

  take(batch: readonly Message[]): void {
    const draft = this.watermark.copy();
    const items = readInOrder(batch.map(itemOf), draft, { now: 0, monotonic: this.clock });
    const taken = this.commit(this.logic.needs(items), (state, number) =>
      this.logic.take(items, { state, number, mark: draft.value }),
    );
    this.watermark = draft;
    this.lateTaken += taken.lateTaken;
    this.failed.push(...taken.failed);
    for (const { item, windows, taken: isTaken } of taken.late) {
      this.missed.push({ id: item.id, starts: windows.map(({ start }) => start), taken: isTaken });
    }
    this.give(taken.fired);
  }

  fireAll(): void {
    for (let due = this.dueRows(); due.length > 0; due = this.dueRows()) {
      const mark = this.watermark.value;
      const page = due.slice(0, Math.max(1, this.next.pages()));
      const slots = [...page.map(({ slot }) => slot), ...this.logic.needsToFire(page, mark)];
      this.give(this.commit(slots, (state, number) => this.logic.fire(page, { state, number, mark })));
    }
  }

  private flush(): void {
    const mark = this.watermark.value;
    const all = [...this.rows.keys()].sort();
    while (all.length > 0) {
      const own = all.splice(0, Math.max(1, this.next.pages())).flatMap((slot) => this.rowOf(slot));
      // A row of the engine's own is among them.
      const page: readonly Row[] = [{ slot: 'm/', value: { mark: 1 } }, ...own];
      const slots = [...page.map(({ slot }) => slot), ...this.logic.needsToFlush(page)];
      const { fired, raise } = this.commit(slots, (state, number) => this.logic.flush(page, { state, number, mark }));
      this.watermark.raise(raise);
      this.give(fired);
    }
  }

  /** The stream has ended. */
  close(end: number): void {
    this.watermark.raise(end);
    this.fireAll();
    while (this.waiting.length > 0) this.handleOldest();
  }

  private dueRows(): readonly Row[] {
    const due = [...this.rows].filter(([, row]) => row.due !== undefined && row.due <= this.watermark.value);
    due.sort(([a, x], [b, y]) => (x.due ?? 0) - (y.due ?? 0) || (a < b ? -1 : 1));
    return due.flatMap(([slot]) => this.rowOf(slot));
  }

  private rowOf(slot: string): readonly Row[] {
    const row = this.rows.get(slot);
    return row ? [{ slot, value: decode(row.bytes), due: row.due }] : [];
  }

  /** Does a step on the rows as last committed, and commits it; or crashes before that, and does it again. */
  private commit<R>(slots: readonly string[], step: (state: StateView, number: number) => R): R {
    if (this.next.repeats()) step(new View(this.rows, slots), this.step++);
    const view = new View(this.rows, slots);
    const result = step(view, this.step++);
    view.commit();
    return result;
  }

  private give(fired: readonly FiredWindow[]): void {
    this.fired.push(...fired);
    this.waiting.push(...fired);
    const keep = this.next.handled();
    while (this.waiting.length > keep) this.handleOldest();
  }

  /** As the method does it: its messages are still in their rows; then those leave that no window needs any more. */
  private handleOldest(): void {
    const window = this.waiting.shift();
    if (!window) return;
    if (!window.silent) this.windows.push(this.handle(window));
    for (const slot of window.release ?? []) this.rows.delete(slot);
  }

  private handle(window: FiredWindow): Expected {
    const { key, start = 0, end = 0, revision, late, partial, openedBy } = window;
    const name = JSON.stringify([key, start, end, revision, openedBy]);
    if (this.names.has(name)) throw new Error(`there are two results ${name}`);
    this.names.add(name);
    const value = 'value' in window ? (window.value as readonly string[]) : this.messagesOf(window);
    return { key, start, end, ids: value, revision, late, partial, openedBy };
  }

  private messagesOf({ content }: FiredWindow): readonly string[] {
    if (!content) return [];
    const parts = partsOf(content, this.order, { maxSize: 3, maxBytes: 1e6 }, (slot) => {
      const row = this.rows.get(slot);
      if (!row) throw new Error(`the row ${slot} left before its window was handled`);
      return decode(row.bytes);
    });
    const messages = parts.flat();
    const { count, until } = content;
    if (until === undefined ? messages.length !== count : messages.length > count)
      throw new Error(`${messages.length} messages in place of ${count}`);
    return messages.map(({ id }) => id);
  }
}

/** Gives only what was asked for, and notes what is written. */
class View implements StateView {
  private readonly read: ReadonlyMap<string, unknown>;
  private readonly written = new Map<string, Stored | undefined>();

  constructor(
    private readonly rows: Map<string, Stored>,
    slots: readonly string[],
  ) {
    this.read = new Map(
      slots.map((slot) => {
        const row = rows.get(slot);
        return [slot, row && decode(row.bytes)];
      }),
    );
  }

  get(slot: string): unknown {
    const written = this.written.get(slot);
    if (written) return decode(written.bytes);
    if (this.written.has(slot)) return undefined;
    if (!this.read.has(slot)) throw new Error(`the row ${slot} was not asked for`);
    return this.read.get(slot);
  }

  put(slot: string, value: unknown, due?: number): void {
    if (Buffer.byteLength(slot) > 256 || slot.includes('\0') || !slot.isWellFormed())
      throw new Error(`no slot: ${slot}`);
    if (due !== undefined && !Number.isSafeInteger(due)) throw new Error(`no time: ${due}`);
    this.written.set(slot, { bytes: encode(value), due });
  }

  remove(slot: string): void {
    this.written.set(slot, undefined);
  }

  commit(): void {
    for (const [slot, row] of this.written) {
      if (row) this.rows.set(slot, row);
      else this.rows.delete(slot);
    }
  }
}

export function itemOf({ id, key, time }: Message): Item {
  const message = { id, data: { id, time }, created: new Date(time) };
  return { id, key, time, data: message.data, message, bytes: 50 };
}
