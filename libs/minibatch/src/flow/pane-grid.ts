import { ZoneOffsets } from './zone-offsets.js';

/**
 * Time in panes: the longest intervals of which every window is made of whole ones. Windows of a minute every 10 s have panes of 10 s, six a
 * window. Panes are numbered from the epoch, and a window is named by the number of its first pane, a multiple of `hop`.
 */
export interface PaneGrid {
  /** Panes in a window. */
  readonly span: number;
  /** Panes from the start of a window to that of the next. */
  readonly hop: number;
  paneOf(time: number): number;
  /** When the pane starts: the end of the one before it. Never before that of a smaller number. */
  start(pane: number): number;
}

export interface GridOptions {
  /** Milliseconds, as all here. */
  readonly interval: number;
  readonly every: number;
  /** Shifts all windows against the epoch. */
  readonly offset: number;
  /** The calendar that days and hours are of, as `'Europe/Berlin'`. @default UTC */
  readonly timezone?: string;
}

export function paneGrid({ interval, every, offset, timezone }: GridOptions): PaneGrid {
  const pane = greatestCommonDivisor(interval, every);
  const shape = { span: interval / pane, hop: every / pane };
  if (timezone === undefined) {
    return {
      ...shape,
      paneOf: (time) => Math.floor((time - offset) / pane),
      start: (number) => number * pane + offset,
    };
  }
  const zone = new ZoneOffsets(timezone);
  return {
    ...shape,
    paneOf: (time) => Math.floor((zone.localOf(time) - offset) / pane),
    start: (number) => zone.instantOf(number * pane + offset),
  };
}

/** The windows that the pane is in, the earliest first. */
export function windowsOf({ span, hop }: PaneGrid, pane: number): readonly number[] {
  const windows: number[] = [];
  for (let window = lastWindowOf({ hop }, pane); window > pane - span; window -= hop) windows.push(window);
  return windows.reverse();
}

export function firstWindowOf({ span, hop }: PaneGrid, pane: number): number {
  return Math.ceil((pane - span + 1) / hop) * hop;
}

/** The window after which the pane is not needed any more. */
export function lastWindowOf({ hop }: Pick<PaneGrid, 'hop'>, pane: number): number {
  return Math.floor(pane / hop) * hop;
}

export function endOf(grid: PaneGrid, window: number): number {
  return grid.start(window + grid.span);
}

/** When the next window starts after this time. */
export function nextStart(grid: PaneGrid, time: number): number {
  let window = lastWindowOf(grid, grid.paneOf(time)) + grid.hop;
  // Where the clock is put forward, a pane may have no time at all.
  while (grid.start(window) <= time) window += grid.hop;
  return grid.start(window);
}

export function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
