import type { mongo } from 'mongoose';
import { delay } from '../../common/clock.js';
import type { DocumentAppender, ReadDocument } from './document-appender.js';
import type { Reading } from './collection-source.options.js';
import { CursorField } from './cursor-field.js';
import { compareValues, type CursorValue, larger, smaller } from './cursor-value.js';
import { readInBatches } from './find-batches.js';
import type { FoundDocument } from './found-document.js';
import type { CursorPosition, SkippedDocuments } from './position.js';
import { SeenDocuments } from './seen-documents.js';
import { createWatermark, type Watermark } from './watermark.js';

/** First wait while nothing arrives; doubles up to the poll interval. */
const SHORTEST_PAUSE = 50;

/** A position that has moved without messages is stored after this time; milliseconds. */
const STORE_IDLE = 10_000;

/** Documents that a start without snapshot remembers as old; they are stored with the position. */
const MOST_SKIPPED = 1000;

/**
 * Follows a collection by a field whose values grow.
 *
 * ```text
 *        from                    highest          newest
 *  ───────┼─────────────────────────┼────────────────┼──▶ field
 *   done, │ look-back: ids only,    │ tail: whole    │
 *  stored │ minus those seen        │ documents      │
 * ```
 *
 * The tail is read at each scan. The look-back finds documents that turned up below `highest` after it was reached, once per poll
 * interval. `from` is the position: it grows up to the watermark of the last look-back, because nothing turns up below
 * that any more, and what had turned up before has been read since.
 */
export class CursorFeed {
  private readonly field: CursorField;
  private readonly seen = new SeenDocuments();
  private from: CursorValue | undefined;
  private highest: CursorValue | undefined;
  private watermark: Watermark | undefined;
  /** The watermark at the last look-back. */
  private mark: CursorValue | undefined;
  private lookedBackAt = Number.NEGATIVE_INFINITY;
  private skip: SkippedDocuments | undefined;
  private stored: CursorValue | undefined;
  private storedAt: number;

  constructor(
    private readonly collection: mongo.Collection,
    private readonly reading: Reading,
    private readonly appender: DocumentAppender,
  ) {
    this.field = new CursorField(collection, reading, appender.signal);
    this.storedAt = reading.clock.monotonic();
  }

  /** Until the signal aborts. */
  async run(position: CursorPosition | undefined): Promise<void> {
    const { clock, pollInterval, snapshot } = this.reading;
    const { signal } = this.appender;
    await this.field.check();
    if (position) this.resume(position);
    else if (!snapshot) await this.startNow();
    const shortest = Math.min(SHORTEST_PAUSE, pollInterval);
    let pause = shortest;
    while (!signal.aborted) {
      const { found, complete } = await this.scan();
      if (!complete) continue;
      if (!found) await this.storeIdle();
      pause = found ? shortest : Math.min(pause * 2, pollInterval);
      await delay(clock, pause, signal);
    }
  }

  private resume({ from, skip }: CursorPosition): void {
    this.from = from;
    this.stored = from;
    this.skip = skip;
    if (skip) for (const id of skip.ids) this.seen.add(id, skip.upTo);
  }

  /** What is there now is old: all of it below the position, or remembered. Otherwise the look-back would find it. */
  private async startNow(): Promise<void> {
    const newest = await this.field.newest();
    if (newest !== undefined) {
      const mark = this.observe(newest);
      const old = await this.field.last(mark, MOST_SKIPPED);
      for (const { id, value } of old) this.seen.add(id, value);
      const oldest = old.at(-1);
      // More than can be remembered: the look-back begins after the rest.
      this.from = old.length === MOST_SKIPPED ? oldest?.value : mark;
      this.highest = newest;
      this.skip = { ids: old.map(({ id }) => id), upTo: newest };
    }
    await this.store([]);
  }

  /** One scan of the collection. Not complete: there is more, and it is time to look back first. */
  private async scan(): Promise<{ readonly found: boolean; readonly complete: boolean }> {
    const { clock, pollInterval } = this.reading;
    const startedAt = clock.monotonic();
    let newest: CursorValue | undefined;
    let late = 0;
    if (startedAt - this.lookedBackAt >= pollInterval) {
      newest = await this.field.newest();
      if (newest === undefined) return { found: false, complete: true };
      this.mark = this.observe(newest);
      this.lookedBackAt = startedAt;
      late = await this.lookBack();
    }
    const tail = await this.readTail(startedAt);
    if (newest !== undefined && tail.complete) this.finishLookBack(newest);
    return { found: late + tail.count > 0, complete: tail.complete };
  }

  private observe(newest: CursorValue): CursorValue | undefined {
    const { lookBack, clock } = this.reading;
    this.watermark ??= createWatermark(this.field.kindOf(newest), lookBack, clock);
    return this.watermark.observe(newest);
  }

  private async lookBack(): Promise<number> {
    if (this.highest === undefined) return 0;
    let count = 0;
    for await (const documents of this.field.late(this.from, this.highest, (id) => this.seen.has(id))) {
      // The position stays: the look-back has not yet searched below the highest value.
      count += await this.append(documents, this.from);
      if (this.appender.signal.aborted) break;
    }
    return count;
  }

  private async readTail(startedAt: number): Promise<{ readonly count: number; readonly complete: boolean }> {
    const { clock, lookBack, pollInterval } = this.reading;
    const { signal } = this.appender;
    let count = 0;
    const range = this.highest === undefined ? this.field.atLeast(this.from) : this.field.above(this.highest);
    for await (const documents of readInBatches(this.collection, this.field.reading, range, this.field.sort, signal)) {
      const last = this.lastOf(documents);
      const settled = this.mark === undefined || last === undefined ? undefined : smaller(last, this.mark);
      count += await this.append(documents, settled === undefined ? this.from : this.forward(settled));
      if (last !== undefined) this.highest = this.highest === undefined ? last : larger(this.highest, last);
      if (signal.aborted) return { count, complete: false };
      // The position does not move beyond the watermark. A tail that does not end would keep it there.
      const overdue = clock.monotonic() - startedAt > Math.max(lookBack, pollInterval);
      if (overdue && last !== undefined && (this.mark === undefined || compareValues(last, this.mark) > 0)) {
        this.lookedBackAt = Number.NEGATIVE_INFINITY;
        return { count, complete: false };
      }
    }
    return { count, complete: !signal.aborted };
  }

  /** The value of the last document that has a single one. */
  private lastOf(documents: readonly FoundDocument[]): CursorValue | undefined {
    const placed = documents.findLast(({ document }) => this.field.find(document) !== undefined);
    return placed && this.field.find(placed.document);
  }

  private finishLookBack(newest: CursorValue): void {
    // Even if none of them was wanted: otherwise a narrow filter would scan the same documents again and again.
    this.highest = this.highest === undefined ? newest : larger(this.highest, newest);
    if (this.mark !== undefined) this.moveTo(this.forward(this.mark));
  }

  private async append(documents: readonly FoundDocument[], from: CursorValue | undefined): Promise<number> {
    const fresh: ReadDocument[] = [];
    for (const found of documents) {
      const { document } = found;
      const id = this.field.dedupeId(document);
      if (this.seen.has(id)) continue;
      const value = this.field.find(document);
      const last = value ?? this.field.lastOf(document);
      if (last !== undefined) this.seen.add(id, last);
      const place = value === undefined ? { unplaced: this.field.unplaced(document) } : {};
      fresh.push({ ...found, ...place, dedupeId: id });
    }
    this.moveTo(from);
    if (fresh.length === 0) return 0;
    await this.store(fresh);
    return fresh.length;
  }

  private forward(value: CursorValue): CursorValue {
    return this.from === undefined ? value : larger(this.from, value);
  }

  private moveTo(from: CursorValue | undefined): void {
    if (from === undefined || (this.from !== undefined && compareValues(from, this.from) === 0)) return;
    this.from = from;
    this.seen.forgetBelow(from);
    if (this.skip && compareValues(from, this.skip.upTo) > 0) this.skip = undefined;
  }

  private position(): CursorPosition {
    return {
      mode: 'cursor',
      field: this.reading.field,
      ...(this.from === undefined ? {} : { from: this.from }),
      ...(this.skip ? { skip: this.skip } : {}),
    };
  }

  private async store(documents: readonly ReadDocument[]): Promise<void> {
    await this.appender.append(documents, this.position());
    this.stored = this.from;
    this.storedAt = this.reading.clock.monotonic();
  }

  /** Once the position has reached the newest value it is stored, so that a later start reads nothing twice. */
  private async storeIdle(): Promise<void> {
    if (this.from === undefined || this.highest === undefined || this.appender.signal.aborted) return;
    if (this.stored !== undefined && compareValues(this.stored, this.from) === 0) return;
    const reached = compareValues(this.from, this.highest) >= 0;
    // While unwanted documents keep arriving, it is never reached.
    if (reached || this.reading.clock.monotonic() - this.storedAt >= STORE_IDLE) await this.store([]);
  }
}
