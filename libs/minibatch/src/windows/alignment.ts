/** Intervals are half-open, [start, end), and lie side by side on a grid. All in milliseconds, all integers. */
export interface Grid {
  readonly interval: number;
  /** A time at which one of the intervals begins; any of them, before or after the times in question. */
  readonly origin: number;
}

/** The latest boundary that is not after the time. */
export function boundaryAtOrBefore({ interval, origin }: Grid, time: number): number {
  return origin + Math.floor((time - origin) / interval) * interval;
}

/**
 * The first boundary after the time: the end of the interval that the time is in. A time on a boundary begins the next.
 */
export function boundaryAfter(grid: Grid, time: number): number {
  return boundaryAtOrBefore(grid, time) + grid.interval;
}
