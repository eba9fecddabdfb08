import { AggregateContent, type AccumulatorLimit } from './aggregate-content.js';
import type { Untyped } from './aggregates.js';
import { CollectContent } from './collect-content.js';
import { CountWindows } from './count-windows.js';
import { HoppingWindows } from './hopping.js';
import { MessageWindows } from './message-windows.js';
import { paneGrid } from './pane-grid.js';
import { SessionWindows } from './sessions.js';
import { TumblingWindows } from './tumbling.js';
import type { WatermarkOptions } from './watermark.js';
import type { WindowLogic } from './window-logic.js';
import type { CountRules, HoppingRules, SessionRules } from './window-rules.js';

/** Windows of fixed length, as their options say; milliseconds. */
export interface HoppingShape extends HoppingRules {
  readonly kind: 'hopping';
  readonly interval: number;
  /** The same as `interval`: side by side. */
  readonly every: number;
  readonly offset: number;
  readonly timezone?: string;
}

export interface SessionShape extends SessionRules {
  readonly kind: 'session';
}

export interface CountShape extends CountRules {
  readonly kind: 'count';
}

export interface MessageShape {
  readonly kind: 'message';
  readonly interval: number;
}

/** Which windows there are, and by which time. */
export interface WindowShape {
  readonly windows: HoppingShape | SessionShape | CountShape | MessageShape;
  readonly time: WatermarkOptions;
}

/** What becomes of the messages of a window: they are given to a method, or one result is made of them. */
export type WindowResult = 'messages' | { readonly aggregate: Untyped; readonly limit: AccumulatorLimit };

/** What these windows do. */
export function logicOf({ windows }: WindowShape, result: WindowResult): WindowLogic {
  if (windows.kind === 'message') {
    return new MessageWindows(windows.interval, result === 'messages' ? undefined : result.aggregate);
  }
  const content = result === 'messages' ? new CollectContent() : new AggregateContent(result.aggregate, result.limit);
  if (windows.kind === 'session') return new SessionWindows(content, windows);
  if (windows.kind === 'count') return new CountWindows(content, windows);
  const grid = paneGrid(windows);
  // Empty windows are those of a key that has no row of a window.
  const isPlain = windows.every === windows.interval && windows.empty === false;
  return isPlain ? new TumblingWindows(content, grid, windows) : new HoppingWindows(content, grid, windows);
}
