import { ObjectId } from 'bson';
import type { Clock } from '../../common/clock.js';
import { compareValues, type CursorValue, type ValueKind } from './cursor-value.js';
import { isObjectId } from './dedupe-id.js';

/**
 * Several writers make ids on their own: one that is smaller than what was read already may turn up later, because clocks
 * differ, a second has many ids, or a write takes its time. The look-back is how much later. A watermark turns it into a value:
 * what turns up from now on is not below it.
 */
export interface Watermark {
  /**
   * @param newest the largest value in the collection just now
   * @returns undefined as long as nothing can be said
   */
  observe(newest: CursorValue): CursorValue | undefined;
}

export function createWatermark(kind: ValueKind, lookBack: number, clock: Clock): Watermark {
  if (kind === 'objectId') return new TimeMark(OBJECT_ID_TIME, lookBack, clock);
  if (kind === 'date') return new TimeMark(DATE_TIME, lookBack, clock);
  return new ObservedMark(lookBack, clock);
}

/** How a kind of value holds a time. */
interface TimeOf {
  /** Milliseconds since the epoch. */
  read(value: CursorValue): number;
  /** The smallest value of that time. */
  make(time: number): CursorValue;
  /** Milliseconds in which several values have the same time. */
  readonly resolution: number;
}

const OBJECT_ID_TIME: TimeOf = {
  read: (value) => (isObjectId(value) ? value.getTimestamp().getTime() : Number.NaN),
  make: (time) => ObjectId.createFromTime(Math.max(0, Math.floor(time / 1000))),
  resolution: 1000,
};

const DATE_TIME: TimeOf = {
  read: (value) => (value instanceof Date ? value.getTime() : Number.NaN),
  make: (time) => new Date(time),
  resolution: 1,
};

/**
 * Values that are times: what turns up is at most the look-back older than the newest one. As time goes by without a newer one,
 * the mark comes closer to it, by this process's monotonic clock, until it is reached.
 */
class TimeMark implements Watermark {
  private newest: CursorValue | undefined;
  private since = 0;

  constructor(
    private readonly time: TimeOf,
    private readonly lookBack: number,
    private readonly clock: Clock,
  ) {}

  observe(newest: CursorValue): CursorValue {
    const { time, lookBack, clock } = this;
    if (this.newest === undefined || compareValues(newest, this.newest) !== 0) {
      this.newest = newest;
      this.since = clock.monotonic();
    }
    const at = time.read(newest);
    // A writer's clock that is ahead must not carry the mark beyond what all others still write.
    if (at > clock.now()) return time.make(clock.now() - lookBack);
    const elapsed = clock.monotonic() - this.since;
    if (elapsed >= lookBack + time.resolution) return newest;
    return time.make(at - Math.max(0, lookBack - elapsed));
  }
}

/** Other values say nothing of time: the mark is the newest value as it was a look-back ago. */
class ObservedMark implements Watermark {
  private readonly seen: { readonly value: CursorValue; readonly at: number }[] = [];

  constructor(
    private readonly lookBack: number,
    private readonly clock: Clock,
  ) {}

  observe(newest: CursorValue): CursorValue | undefined {
    const now = this.clock.monotonic();
    const last = this.seen.at(-1);
    if (!last || compareValues(newest, last.value) > 0) this.seen.push({ value: newest, at: now });
    while (this.seen[1] && now - this.seen[1].at >= this.lookBack) this.seen.shift();
    const [oldest] = this.seen;
    return oldest && now - oldest.at >= this.lookBack ? oldest.value : undefined;
  }
}
