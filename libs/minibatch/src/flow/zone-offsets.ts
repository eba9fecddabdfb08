import { BoundedMap } from '../common/bounded-map.js';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** Days whose offset is kept. */
const KNOWN = 2_000;

/**
 * What the clocks of a zone show. Local times are milliseconds, too: those at which a clock in UTC would show the same.
 *
 * @throws RangeError if there is no such zone
 */
export class ZoneOffsets {
  private readonly format: Intl.DateTimeFormat;
  /** By day; null: the clocks are changed on that day. */
  private readonly days = new BoundedMap<number, number | null>(KNOWN);

  constructor(timezone: string) {
    this.format = new Intl.DateTimeFormat('en-US', { timeZone: timezone, timeZoneName: 'longOffset' });
  }

  localOf(instant: number): number {
    return instant + this.offsetAt(instant);
  }

  /** The first moment at which clocks show this time. If they never do, because they are put forward: when that happens. */
  instantOf(local: number): number {
    const offsets = [this.offsetAt(local - DAY), this.offsetAt(local + DAY)] as const;
    const [early, late] = [local - Math.max(...offsets), local - Math.min(...offsets)];
    if (this.localOf(early) === local) return early;
    if (this.localOf(late) === local) return late;
    return this.leapBetween(early, late, local);
  }

  /** The first moment at which clocks show this time or a later one; they show an earlier one before it, and a later one after it. */
  private leapBetween(before: number, after: number, local: number): number {
    let [from, to] = [before, after];
    while (to - from > 1) {
      const middle = Math.floor((from + to) / 2);
      if (this.localOf(middle) < local) from = middle;
      else to = middle;
    }
    return to;
  }

  private offsetAt(instant: number): number {
    const day = Math.floor(instant / DAY);
    let offset = this.days.get(day);
    if (offset === undefined) {
      const [first, next] = [this.read(day * DAY), this.read((day + 1) * DAY)];
      offset = first === next ? first : null;
      this.days.set(day, offset);
    }
    return offset ?? this.read(instant);
  }

  /** From a text like `1/1/1970, GMT+01:00`; of the nineteenth century it may have seconds. */
  private read(instant: number): number {
    const [, sign = '+', hours = '0', minutes = '0', seconds = '0'] =
      /GMT(?:([+−-])(\d+):(\d+)(?::(\d+))?)?$/.exec(this.format.format(instant)) ?? [];
    const length = (Number(hours) * 60 + Number(minutes)) * MINUTE + Number(seconds) * 1000;
    return sign === '+' ? length : -length;
  }
}
