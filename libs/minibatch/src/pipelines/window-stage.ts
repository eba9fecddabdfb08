import { isDeepStrictEqual } from 'node:util';
import type { StageChanges, ValueCodec } from '../engine/engine.interface.js';
import { isOpenRow } from '../flow/open-rows.js';
import { MergedWatermark } from '../flow/merged-watermark.js';
import { type Look, type Mark, Watermark, type WatermarkOptions, type WatermarkState } from '../flow/watermark.js';
import { readInOrder, type WindowLogic } from '../flow/window-logic.js';
import { decodeValue, encodeValue } from '../storage/encoded-message.js';
import type { EmitterContext } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import type { Feeder, Progress } from './feeder.js';
import { StageBatches } from './stage-batches.js';
import { WindowBatch, type WindowWork } from './window-batch.js';

/** Where the watermark is stored; no slot of a window begins with it. */
const MARK = 'm/';
/** How rows are stored. */
export const ROWS: ValueCodec = {
  encode: encodeValue,
  decode: (bytes) => decodeValue(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)),
};
/** Rows of closed windows that one commit removes. */
const MOST_LEFT = 50_000;

/**
 * The shape of the windows that are open. Undefined if none is: then what is left of closed ones is removed, because windows of another shape
 * could not read it.
 */
export async function openWindows(changes: StageChanges): Promise<string | undefined> {
  await changes.load([MARK]);
  const stored = changes.get(MARK) as StoredMark | undefined;
  if (!stored) return undefined;
  const left: string[] = [];
  for await (const rows of changes.pages()) {
    const others = rows.filter(({ slot }) => slot !== MARK);
    if (others.some(isOpenRow)) return stored.shape ?? '';
    for (const { slot } of others) left.push(slot);
    if (left.length > MOST_LEFT) return stored.shape ?? '';
  }
  for (const slot of left) changes.remove(slot);
  return undefined;
}

export interface WindowStageOptions {
  readonly logic: WindowLogic;
  readonly time: WatermarkOptions;
  /** Where its messages come from, if they say how far they have come: see `MergedWatermark`. */
  readonly sides?: { readonly inputs: readonly string[]; readonly idleAfter: number };
  /** What the rows look like. Others are refused while there are rows of an earlier shape. */
  readonly shape: string;
  /** What to throw then. */
  readonly changed: (stored: string) => Error;
}

/** What is stored of a stage as a whole. */
interface StoredMark extends WatermarkState {
  readonly shape?: string;
  /** A flush has begun and has not come to its end. */
  readonly flush?: Flush;
}

/** What a batch has come to. */
export interface StageRun {
  /** When everything had been read that there was, if the batch is the last one. */
  readonly read: Look | undefined;
  /** All windows have been given out, because the stream was flushed. */
  readonly isFlushed: boolean;
  readonly own: Progress;
}

/** A flush that takes several batches. */
interface Flush {
  /** The mark when it began; absent: there was none. */
  readonly from?: number;
}

/**
 * Strategy and handler of a stage with windows by key and time. Messages come in batches, one after another, and each batch puts its messages
 * into rows. When nothing comes and a row is due by the clock, there is a batch without messages, which fires it.
 *
 * One instance serves one partition; what it remembers goes with the lease, and is in the store.
 */
export class WindowStage extends StageBatches {
  /** As of the last batch that is through, and on from there while nothing comes. */
  private watermark: Mark;
  /** No row is due before. Undefined: not known yet; Infinity: none is due. */
  private nextDue: number | undefined;
  /** One that has begun. */
  private flush: Flush | undefined;

  constructor(
    private readonly options: WindowStageOptions,
    feeder?: Feeder,
  ) {
    super(feeder);
    this.watermark = markOf(options);
  }

  override init(context: EmitterContext): void | Promise<void> {
    this.watermark = markOf(this.options);
    this.nextDue = undefined;
    this.flush = undefined;
    return super.init(context);
  }

  // ---- when there is a batch

  protected rest(look: Look): void {
    this.watermark.rest(look);
  }

  protected busy(): void {
    this.watermark.busy();
  }

  protected get isDue(): boolean {
    return this.nextDue === undefined || this.flush !== undefined || this.nextDue <= this.watermark.value;
  }

  protected get dueAt(): number {
    const { nextDue = Infinity } = this;
    return nextDue === Infinity ? Infinity : this.watermark.reaches(nextDue);
  }

  protected get flushes(): boolean {
    return true;
  }

  protected override get own(): Progress | undefined {
    return this.nextDue === undefined ? undefined : progressOf(this.watermark, this.nextDue);
  }

  // ---- a batch

  /** @returns what the steps behind the windows have to know */
  async run(window: Window, changes: StageChanges, work: WindowWork): Promise<StageRun> {
    const cut = this.cutOf(window);
    const isFirst = this.nextDue === undefined;
    const stored = await this.stored(changes);
    const draft = isFirst ? markOf(this.options, stored) : this.watermark.copy();
    const timed = readInOrder(work.entries(), draft, changes.began);
    if (cut?.read) draft.rest(cut.read);
    else draft.busy();
    const batch = new WindowBatch(this.options.logic, changes, work, draft);
    if (timed.length > 0) await batch.take(timed);
    const isEmpty = window.messages.length === 0;
    const asked = draft.takeFlush() ? flushFrom(draft) : undefined;
    const begun = (isFirst ? stored?.flush : this.flush) ?? asked;
    const flushes = cut?.flushes === true || (begun !== undefined && isEmpty);
    const flush = flushes ? await this.flushSome(batch, draft, begun) : begun;
    const known = isFirst ? await changes.nextDue() : this.nextDue;
    // The rest of a flush would be fired as if it had come to its end.
    const nextDue = flush ? -Infinity : await batch.fireDue(known ?? Infinity);
    this.store({ ...draft.state, shape: this.options.shape, ...(flush && { flush }) }, stored, changes);
    changes.whenThrough(() => {
      this.watermark = draft;
      this.nextDue = nextDue;
      this.flush = flush;
      this.through(window, changes);
    });
    const isFlushed = flushes && flush === undefined;
    return { read: cut?.read, isFlushed, own: progressOf(draft, nextDue) };
  }

  /** @throws what `changed` makes: rows of another shape would be read as what they are not */
  private async stored(changes: StageChanges): Promise<StoredMark | undefined> {
    await changes.load([MARK]);
    const stored = changes.get(MARK) as StoredMark | undefined;
    if (!stored || stored.shape === this.options.shape) return stored;
    const open = await openWindows(changes);
    if (open !== undefined) throw this.options.changed(open);
    const { flush: _flush, ...mark } = stored;
    return mark;
  }

  /** @returns what is left to flush */
  private async flushSome(batch: WindowBatch, draft: Mark, begun: Flush | undefined): Promise<Flush | undefined> {
    const flush = begun ?? flushFrom(draft);
    const { isDone, raise } = await batch.flush(flush.from ?? -Infinity);
    // At once: what comes before the rest is flushed must not go into windows that have been given out.
    draft.raise(raise);
    return isDone ? undefined : flush;
  }

  private store(mark: StoredMark, stored: StoredMark | undefined, changes: StageChanges): void {
    if (!isDeepStrictEqual(mark, stored)) changes.put(MARK, mark);
  }
}

function markOf({ time, sides }: WindowStageOptions, stored?: WatermarkState): Mark {
  return sides ? new MergedWatermark({ ...time, ...sides }, stored) : new Watermark(time, stored);
}

function flushFrom({ value }: Mark): Flush {
  return Number.isFinite(value) ? { from: value } : {};
}

function progressOf(mark: Mark, next: number): Progress {
  return { mark: mark.value, next, moves: mark.reaches(mark.value + 1) < Infinity };
}
