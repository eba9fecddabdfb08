import { SideFlushes, type SideNote } from './side-note.js';

/** The clock at one moment. */
export interface Look {
  /** Milliseconds since the epoch; may jump. */
  readonly now: number;
  /** Milliseconds that only go forward. */
  readonly monotonic: number;
}

export interface WatermarkOptions {
  /** `event`: the mark follows the times of the messages. `processing`: it follows the clock. */
  readonly mode: 'event' | 'processing';
  /** How far the mark stays behind, in milliseconds: `wait` of event time, `grace` of processing time. */
  readonly wait: number;
  /** Whether the mark of event time goes on with the clock while nothing comes. */
  readonly idle: 'advance' | 'hold';
  /** A message further ahead of the clock counts as arrived now, and moves no mark; milliseconds. */
  readonly maxAhead: number;
}

/** What is stored with each commit. Absent: no message has moved it yet. */
export interface WatermarkState {
  /** Milliseconds since the epoch: windows that end here or before are closed. */
  readonly mark?: number;
  /** The latest time of a message; where there are sides, the furthest mark of one. */
  readonly max?: number;
  /** Of each side that messages come from. */
  readonly sides?: Readonly<Record<string, { readonly mark?: number; readonly next?: number }>>;
  /** Sides that were flushed, while others of their input have not said so. */
  readonly flushed?: readonly string[];
}

/** The time of a message, and the mark when it was read. */
export interface Reading {
  readonly time: number;
  readonly mark: number;
}

/** A mark that goes on with what is read: see `Watermark`, and `MergedWatermark` for messages of several sides. */
export interface Mark {
  readonly state: WatermarkState;
  readonly value: number;
  copy(): Mark;
  /** @param note of the side that the message comes from, if there are sides */
  read(time: number, look: Look, note?: SideNote): Reading;
  hear(note: SideNote, look: Look): void;
  rest(look: Look): void;
  busy(): void;
  raise(to: number): void;
  reaches(time: number): number;
  /** Whether an input has been flushed since this was asked last. */
  takeFlush(): boolean;
}

/** Furthest time from the epoch: with any window around it, bounds are still dates. */
const FURTHEST = 8e15;

/**
 * The time that `time` gave, in whole milliseconds; undefined if it is none: an invalid date, a text, a number that is none, or one so far
 * away that a window around it could not be dated.
 */
export function timeOf(given: unknown): number | undefined {
  const time = given instanceof Date ? given.getTime() : given;
  if (typeof time !== 'number' || !(Math.abs(time) <= FURTHEST)) return undefined;
  return Math.floor(time);
}

/**
 * How far time has come in a stream: what ends at the mark or before is closed. It never goes back.
 *
 * Of event time: the latest time of a message, less `wait`. While everything has been read, and nothing comes that moves it further, it
 * goes on with the clock. Each message is judged by the mark that those before it have set, whatever batch they come in.
 *
 * Of processing time: the clock less `wait`, each time everything has been read.
 *
 * It changes when it is asked to read: a step works on a copy, which replaces it when the step is committed.
 */
export class Watermark implements Mark {
  private mark = -Infinity;
  private max = -Infinity;
  /** Since when the mark goes on with the clock, and from where; undefined in a backlog. Of processing time: the clock when everything had been read. */
  private rested: { readonly at: number; readonly mark: number } | undefined;
  /** Quiet time that does not count yet. */
  private owed = 0;
  private looked: Look | undefined;
  /** How far the clock has leapt, if no message has confirmed it; a negative leap was back. */
  private leapt = 0;
  private flushes: SideFlushes;
  private wantsFlush = false;

  /**
   * @param stored as last committed. A new holder goes on from there, and waits `wait` anew before it goes on with the clock: sources may have been
   * down with the holder before it, and what they bring now is not late
   */
  constructor(
    private readonly options: WatermarkOptions,
    stored: WatermarkState = {},
  ) {
    this.mark = stored.mark ?? -Infinity;
    this.max = stored.max ?? -Infinity;
    this.owed = stored.mark === undefined ? 0 : options.wait;
    this.flushes = new SideFlushes(stored.flushed);
  }

  get state(): WatermarkState {
    return {
      ...(Number.isFinite(this.mark) && { mark: this.mark }),
      ...(Number.isFinite(this.max) && { max: this.max }),
      ...flushedOf(this.flushes),
    };
  }

  /** −Infinity before anything has moved it. */
  get value(): number {
    return this.mark;
  }

  copy(): Watermark {
    return Object.assign(new Watermark(this.options), this, { flushes: new SideFlushes(this.flushes.state) });
  }

  /** The next message in read order. @param time as `timeOf` gives it, or `created` */
  read(time: number, look: Look): Reading {
    const now = this.clock(look, time);
    const { mark } = this;
    if (time > now + this.options.maxAhead) return { time: now, mark };
    this.max = Math.max(this.max, time);
    if (this.options.mode === 'event') this.mark = Math.max(mark, time - this.options.wait);
    return { time, mark };
  }

  /**
   * All messages that were there at this time have been read, and judged. Called after a batch that was the last one, and then again and again
   * while nothing comes, it lets the mark go on.
   */
  rest(look: Look): void {
    const now = this.clock(look);
    if (this.options.mode === 'processing') {
      this.rested = { at: look.monotonic, mark: now - this.options.wait };
      this.mark = Math.max(this.mark, this.rested.mark);
      return;
    }
    if (this.options.idle === 'hold') return;
    const quiet = this.rested ? look.monotonic - this.rested.at : 0;
    const advanced = this.rested ? Math.floor(this.rested.mark + Math.max(0, quiet)) : -Infinity;
    if (this.rested && advanced >= this.mark) {
      this.mark = advanced;
      if (quiet > 0) this.owed = 0;
    } else this.rested = { at: look.monotonic + this.owed, mark: this.mark };
  }

  hear(note: SideNote): void {
    if (this.flushes.hear(note)) this.wantsFlush = true;
  }

  takeFlush(): boolean {
    const { wantsFlush } = this;
    this.wantsFlush = false;
    return wantsFlush;
  }

  /** When everything has to have been read for it to reach this time, if nothing comes; monotonic. Infinity: the clock does not bring it there. */
  reaches(time: number): number {
    if (time <= this.mark) return -Infinity;
    return this.rested ? this.rested.at + (time - this.rested.mark) : Infinity;
  }

  /** There is more to read: the time until it has been read is not quiet. */
  busy(): void {
    this.rested = undefined;
  }

  /** Windows up to here have been fired before their time: what follows for them is late. */
  raise(to: number): void {
    this.mark = Math.max(this.mark, to);
  }

  /**
   * The clock, but for leaps forward: one that is wrong by a day would close the windows of that day, for good. A message that is
   * from after the leap confirms it.
   */
  private clock(look: Look, time = -Infinity): number {
    const { looked, options } = this;
    const leap = looked ? look.now - looked.now - (look.monotonic - looked.monotonic) : 0;
    if (Math.abs(leap) > options.maxAhead || this.leapt !== 0) this.leapt += leap;
    const ahead = Math.max(0, this.leapt);
    const confirmed = time > look.now - ahead + options.maxAhead && time <= look.now + options.maxAhead;
    if (Math.abs(this.leapt) <= options.maxAhead || confirmed) this.leapt = 0;
    this.looked = look;
    return look.now - Math.max(0, this.leapt);
  }
}

export function flushedOf({ state }: SideFlushes): Pick<WatermarkState, 'flushed'> {
  return state.length > 0 ? { flushed: state } : {};
}
