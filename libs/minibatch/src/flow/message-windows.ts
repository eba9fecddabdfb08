import { changed, isBuiltIn, type Untyped } from './aggregates.js';
import { Call, Drafts, putEach, type RowShape } from './call.js';
import {
  byTime,
  type Chunk,
  type CollectedMessage,
  collectedFrom,
  type ChunkRef,
  tooLong,
  writeChunks,
} from './collect-content.js';
import { copyOf } from './plain-copy.js';
import { keyFrom, kindOf, slotOf, type StoredKey, storedKey } from './slot.js';
import type { FiredWindow, Row, StateView, Step, Taken, TimedItem, WindowLogic } from './window-logic.js';

const MESSAGES = 'e';
/** Windows of a key that one call fires: it is called again for the rest. */
const MOST_AT_ONCE = 100;

/** A chunk, and the times of its first and last message. */
interface TimedChunk extends ChunkRef {
  readonly from: number;
  readonly to: number;
}

/** A message whose window has not been fired. */
interface Pending {
  readonly time: number;
  readonly id: string;
}

interface MessagesRow {
  readonly key: string;
  chunks: readonly TimedChunk[];
  /** Messages that are in no chunk yet. */
  tail: CollectedMessage[];
  /** In order. */
  pending: Pending[];
}

interface StoredMessages {
  readonly key: StoredKey;
  readonly chunks: readonly TimedChunk[];
  readonly tail: readonly CollectedMessage[];
  readonly pending: readonly Pending[];
}

/**
 * `every: 'message'`: for each message a window of what came in the time before it, (t − `interval`, t], by key. It closes when the mark
 * reaches t, so that all has come that is before it. A message that comes later than that is late: it has no window and is in none.
 *
 * Messages are stored once. One row a key knows where they are, and which of them wait for their windows.
 */
export class MessageWindows implements WindowLogic {
  private readonly shape: RowShape<MessagesRow>;
  private readonly copies: boolean;

  /** @param aggregate absent: the method gets the messages */
  constructor(
    private readonly interval: number,
    private readonly aggregate?: Untyped,
  ) {
    this.copies = aggregate !== undefined && !isBuiltIn(aggregate);
    this.shape = {
      decode(value) {
        const { key, chunks, tail, pending } = value as StoredMessages;
        return { key: keyFrom(key), chunks, tail: [...tail], pending: [...pending] };
      },
      encode: (row) => ({ value: { ...row, key: storedKey(row.key) } satisfies StoredMessages, due: this.dueOf(row) }),
    };
  }

  needs(items: readonly TimedItem[]): readonly string[] {
    return [...new Set(items.filter(isOnTime).map(({ key }) => slotOf(MESSAGES, key)))];
  }

  take(items: readonly TimedItem[], step: Step): Taken {
    const call = new Call(step);
    const rows = this.drafts(step.state);
    putEach(items, call, (item) => {
      if (!isOnTime(item)) {
        call.late.push({ item, windows: [this.boundsOf(item.time)], taken: false });
        return;
      }
      // It is added when windows are fired: who throws at it then would throw at it now.
      if (this.aggregate) this.add(this.aggregate, this.aggregate.init(), collectedFrom(item));
      this.put(item, rows);
    });
    for (const [, row] of rows.entries()) if (tooLong(row.tail)) seal(row, call);
    rows.save();
    return call.taken;
  }

  needsToFire(due: readonly Row[], mark: number): readonly string[] {
    return due.flatMap(({ value }) => {
      const row = this.shape.decode(value);
      return this.chunksOf(
        row,
        row.pending.slice(0, MOST_AT_ONCE).filter(({ time }) => time <= mark),
      );
    });
  }

  fire(due: readonly Row[], step: Step): readonly FiredWindow[] {
    const call = new Call(step);
    const rows = this.drafts(step.state);
    for (const { slot } of due) {
      const row = rows.get(slot);
      if (!row) continue;
      const { mark, most = MOST_AT_ONCE } = step;
      const pending = row.pending.slice(0, Math.min(most, MOST_AT_ONCE)).filter(({ time }) => time <= mark);
      this.fireRow(row, pending, step, step.mark, call);
      this.keep(slot, row, rows);
    }
    rows.save();
    return call.fired;
  }

  needsToFlush(rows: readonly Row[]): readonly string[] {
    return rows.filter(isMessagesRow).flatMap(({ value }) => {
      const row = this.shape.decode(value);
      return this.chunksOf(row, row.pending);
    });
  }

  flush(given: readonly Row[], step: Step): { readonly fired: readonly FiredWindow[]; readonly raise: number } {
    const call = new Call(step);
    const rows = this.drafts(step.state);
    let raise = -Infinity;
    for (const { slot } of given.filter(isMessagesRow)) {
      const row = rows.get(slot);
      const pending = row?.pending.slice(0, step.most);
      const last = pending?.at(-1);
      if (!row || !pending || !last) continue;
      raise = Math.max(raise, last.time);
      this.fireRow(row, pending, step, Math.max(step.mark, last.time), call);
      this.keep(slot, row, rows);
    }
    rows.save();
    return { fired: call.fired, raise };
  }

  private drafts(state: StateView): Drafts<MessagesRow> {
    return new Drafts(state, this.shape);
  }

  private keep(slot: string, row: MessagesRow, rows: Drafts<MessagesRow>): void {
    if (row.chunks.length + row.tail.length === 0) rows.remove(slot);
    else rows.put(slot, row);
  }

  private boundsOf(time: number): { readonly start: number; readonly end: number } {
    return { start: time - this.interval, end: time };
  }

  private put(item: TimedItem, rows: Drafts<MessagesRow>): void {
    const { key, time, id } = item;
    const slot = slotOf(MESSAGES, key);
    const row = rows.get(slot) ?? { key, chunks: [], tail: [], pending: [] };
    const last = row.pending.at(-1);
    row.pending.push({ time, id });
    // As a rule it is the latest.
    if (last && byTime(last, { time, id }) > 0) row.pending.sort(byTime);
    row.tail.push(collectedFrom(item));
    rows.put(slot, row);
  }

  private fireRow(row: MessagesRow, fired: readonly Pending[], step: Step, mark: number, call: Call): void {
    if (!this.aggregate && fired.length > 0) seal(row, call);
    const facts = ({ time, id }: Pending) => ({
      ...{ key: row.key, ...this.boundsOf(time), openedBy: id },
      ...{ revision: 0, late: false, partial: time > step.mark },
    });
    if (this.aggregate) {
      const results = this.resultsOf(row, fired, step.state, this.aggregate);
      for (const [index, each] of fired.entries()) call.fired.push({ ...facts(each), ...results[index] });
    } else for (const each of fired) call.fired.push({ ...facts(each), content: this.contentOf(row, each) });
    row.pending = row.pending.slice(fired.length);
    const leaving = this.dropUnneeded(row, mark);
    if (this.aggregate) for (const { slot } of leaving) step.state.remove(slot);
    else
      call.releaseWithLast(
        row.key,
        leaving.map(({ slot }) => slot),
        fired.length > 0,
      );
  }

  private contentOf(row: MessagesRow, { time }: Pending): FiredWindow['content'] {
    const chunks = row.chunks.filter((chunk) => this.isIn(chunk, time));
    return {
      chunks: chunks.map(({ slot }) => slot),
      count: chunks.reduce((sum, { count }) => sum + count, 0),
      bytes: chunks.reduce((sum, { bytes }) => sum + bytes, 0),
      after: time - this.interval,
      until: time,
    };
  }

  /** Of windows in the order of their ends, which are read from one list: each begins and ends no earlier in it than the one before. */
  private resultsOf(
    row: MessagesRow,
    fired: readonly Pending[],
    state: StateView,
    aggregate: Untyped,
  ): readonly Partial<FiredWindow>[] {
    const chunks = this.chunksOf(row, fired).flatMap((slot) => (state.get(slot) as Chunk).messages);
    const messages = [...chunks, ...row.tail].sort(byTime);
    let from = 0;
    let to = 0;
    return fired.map(({ time }) => {
      while ((messages[to]?.time ?? Infinity) <= time) to += 1;
      while (from < to && (messages[from]?.time ?? Infinity) <= time - this.interval) from += 1;
      return this.resultOf(messages.slice(from, to), aggregate);
    });
  }

  private resultOf(messages: readonly CollectedMessage[], aggregate: Untyped): Partial<FiredWindow> {
    let acc = aggregate.init();
    try {
      for (const message of messages) acc = this.add(aggregate, acc, message);
      return { value: aggregate.result(copyOf(acc)), parts: [acc] };
    } catch (failed) {
      return { failed, parts: [acc] };
    }
  }

  private add(aggregate: Untyped, acc: unknown, message: CollectedMessage): unknown {
    // It is added to several windows: what `add` does to it must not be seen then.
    const data = this.copies ? copyOf(message.data) : message.data;
    return changed(acc, aggregate.add(acc, data, { ...message, data }, message));
  }

  /** Whether the window that ends at this time has anything of these times. */
  private isIn({ from, to }: Pick<TimedChunk, 'from' | 'to'>, time: number): boolean {
    return to > time - this.interval && from <= time;
  }

  private chunksOf(row: MessagesRow, fired: readonly Pending[]): readonly string[] {
    if (!this.aggregate) return [];
    return row.chunks.filter((chunk) => fired.some(({ time }) => this.isIn(chunk, time))).map(({ slot }) => slot);
  }

  /** What comes later than the mark, and what waits, is all that windows still end with. @returns chunks that have left */
  private dropUnneeded(row: MessagesRow, mark: number): readonly TimedChunk[] {
    const next = Math.min(mark + 1, row.pending[0]?.time ?? Infinity);
    const isNeeded = (to: number) => to > next - this.interval;
    const leaving = row.chunks.filter(({ to }) => !isNeeded(to));
    row.chunks = row.chunks.filter(({ to }) => isNeeded(to));
    row.tail = row.tail.filter(({ time }) => isNeeded(time));
    return leaving;
  }

  private dueOf({ chunks, tail, pending }: MessagesRow): number | undefined {
    const [first] = pending;
    if (first) return first.time;
    const last = [...chunks.map(({ to }) => to), ...tail.map(({ time }) => time)];
    return last.length === 0 ? undefined : last.reduce((a, b) => Math.max(a, b)) + this.interval - 1;
  }
}

function isOnTime({ time, mark }: TimedItem): boolean {
  return time > mark;
}

function isMessagesRow({ slot }: Row): boolean {
  return kindOf(slot) === MESSAGES;
}

function seal(row: MessagesRow, call: Call): void {
  const written = writeChunks(row.tail, call.chunks).map(({ items, ...ref }) => {
    const times = items.map(({ time }) => time);
    return { ...ref, from: times.reduce((a, b) => Math.min(a, b)), to: times.reduce((a, b) => Math.max(a, b)) };
  });
  row.chunks = [...row.chunks, ...written];
  row.tail = [];
}
