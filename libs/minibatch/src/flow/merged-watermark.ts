import { inputOf, SideFlushes, sideOf, type SideNote } from './side-note.js';
import {
  flushedOf,
  type Look,
  type Mark,
  type Reading,
  type WatermarkOptions,
  type WatermarkState,
} from './watermark.js';

export interface MergedOptions extends WatermarkOptions {
  /** How long a side may say nothing until nobody waits for it; milliseconds. */
  readonly idleAfter: number;
  /** Those that are waited for from the beginning. */
  readonly inputs: readonly string[];
}

/** What is known of one side. */
interface Side {
  readonly mark: number;
  readonly next: number;
  readonly isIdle: boolean;
  /** The first moment at which everything had been read and it had said nothing more; monotonic. Undefined: there was none. */
  readonly since: number | undefined;
}

const UNHEARD: Side = { mark: -Infinity, next: Infinity, isIdle: false, since: undefined };

/**
 * How far time has come where messages come from several sides, each with a mark of its own: as far as on the side that is behind. It never
 * goes back.
 *
 * A side that has said nothing for `idleAfter` is not waited for, but for the windows that were open on it. Only time between two moments counts at
 * which everything had been read. If no side is waited for, the mark goes on with the clock, from the one that was furthest.
 *
 * It changes when it is asked to read: a step works on a copy, which replaces it when the step is committed.
 */
export class MergedWatermark implements Mark {
  private mark: number;
  /** Of the sides, the furthest. */
  private furthest: number;
  private sides = new Map<string, Side>();
  /** When everything had been read last; monotonic. */
  private restedAt = -Infinity;
  private flushes: SideFlushes;
  private wantsFlush = false;

  /** @param stored as last committed. Of its sides, those of inputs that are gone are forgotten; the others are waited for anew */
  constructor(
    private readonly options: MergedOptions,
    stored: WatermarkState = {},
  ) {
    this.mark = stored.mark ?? -Infinity;
    // Of an earlier version, `max` is the time of a message.
    this.furthest = (stored.sides ? stored.max : stored.mark) ?? -Infinity;
    this.flushes = new SideFlushes(stored.flushed);
    const heard = new Set<string>();
    for (const [side, { mark, next }] of Object.entries(stored.sides ?? {})) {
      if (!options.inputs.includes(inputOf(side))) continue;
      heard.add(inputOf(side));
      this.sides.set(side, {
        ...UNHEARD,
        ...(mark !== undefined && { mark }),
        ...(next !== undefined && { next }),
      });
    }
    for (const input of options.inputs) if (!heard.has(input)) this.sides.set(sideOf(input, 0), UNHEARD);
  }

  get state(): WatermarkState {
    const sides = [...this.sides].map(([side, { mark, next }]) => [
      side,
      {
        ...(Number.isFinite(mark) && { mark }),
        ...(Number.isFinite(next) && { next }),
      },
    ]);
    return {
      ...(Number.isFinite(this.mark) && { mark: this.mark }),
      ...(Number.isFinite(this.furthest) && { max: this.furthest }),
      sides: Object.fromEntries(sides) as NonNullable<WatermarkState['sides']>,
      ...flushedOf(this.flushes),
    };
  }

  get value(): number {
    return this.mark;
  }

  copy(): MergedWatermark {
    const copy = Object.assign(new MergedWatermark({ ...this.options, inputs: [] }), this);
    copy.sides = new Map(this.sides);
    copy.flushes = new SideFlushes(this.flushes.state);
    return copy;
  }

  read(time: number, look: Look, note?: SideNote): Reading {
    const { mark } = this;
    const isAhead = time > look.now + this.options.maxAhead;
    // Written by an earlier version.
    const said = note ?? { side: sideOf('', 0), mark: time - this.options.wait };
    this.hear(isAhead ? { side: said.side } : said, look);
    return { time: isAhead ? look.now : time, mark };
  }

  hear(note: SideNote, look: Look): void {
    const { side, mark, next, of = 1, isIdle } = note;
    if (this.flushes.hear(note)) this.wantsFlush = true;
    for (let partition = 0; partition < of; partition += 1) {
      const other = sideOf(inputOf(side), partition);
      if (!this.sides.has(other)) this.sides.set(other, UNHEARD);
    }
    const known = this.sides.get(side) ?? UNHEARD;
    // A clock that is wrong moves nothing.
    const isSound = mark !== undefined && mark <= look.now + this.options.maxAhead;
    this.sides.set(side, {
      mark: isSound ? Math.max(known.mark, mark) : known.mark,
      // Items say nothing of windows that are open.
      next: mark === undefined && isIdle !== true ? known.next : (next ?? Infinity),
      isIdle: isIdle === true,
      since: undefined,
    });
    if (isSound) this.furthest = Math.max(this.furthest, mark);
    this.advance();
  }

  rest({ monotonic }: Look): void {
    this.restedAt = Math.max(this.restedAt, monotonic);
    for (const [name, side] of this.sides) {
      if (side.since === undefined) this.sides.set(name, { ...side, since: this.restedAt });
    }
    this.advance();
  }

  /** What has not been read may be of any side: none of them is silent meanwhile, as far as is known. */
  busy(): void {
    // Silence is counted when everything has been read.
  }

  raise(to: number): void {
    this.mark = Math.max(this.mark, to);
  }

  reaches(time: number): number {
    if (time <= this.mark) return -Infinity;
    const sides = [...this.sides.values()];
    // It moves when a side is no longer waited for.
    const moments = sides.flatMap(({ since, isIdle }) =>
      since === undefined || isIdle ? [] : [since + this.options.idleAfter],
    );
    for (const moment of moments.sort((a, b) => a - b)) {
      if (moment > this.restedAt && this.boundAt(moment) >= time) return moment;
    }
    if (sides.some(({ since }) => since === undefined)) return Infinity;
    const silent = Math.max(...moments, this.restedAt);
    const moment = Math.max(silent, this.quietSince + (time - this.furthest));
    return this.boundAt(moment) >= time ? moment : Infinity;
  }

  takeFlush(): boolean {
    const { wantsFlush } = this;
    this.wantsFlush = false;
    return wantsFlush;
  }

  private advance(): void {
    this.mark = Math.max(this.mark, this.boundAt(this.restedAt));
  }

  /** As far as it can be, if all has been read at this time and nothing has come since. */
  private boundAt(moment: number): number {
    let least = Infinity;
    let isWaiting = false;
    for (const side of this.sides.values()) {
      const isWaitedFor = !side.isIdle && (side.since === undefined || moment - side.since < this.options.idleAfter);
      isWaiting ||= isWaitedFor;
      least = Math.min(least, isWaitedFor ? side.mark : side.next);
    }
    if (isWaiting) return least;
    const isQuiet = this.options.idle === 'advance' && moment > this.quietSince;
    const quiet = isQuiet ? moment - this.quietSince : 0;
    return Math.min(least, Math.floor(this.furthest + quiet));
  }

  /** Since when no side has said anything. */
  private get quietSince(): number {
    let latest = -Infinity;
    for (const { since } of this.sides.values()) latest = Math.max(latest, since ?? this.restedAt);
    return latest;
  }
}
