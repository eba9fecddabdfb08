import type { InFlightWindow } from './in-flight-window.js';

interface Lane {
  /** It is ready, or runs. */
  current: InFlightWindow;
  /** In their order. */
  readonly waiting: InFlightWindow[];
}

/**
 * Windows of one lane are handled one after another: one of them is ready or runs, from its first attempt to its last, and the others wait.
 * A window that is set aside lets the next ones pass, as it does without lanes.
 */
export class Lanes {
  private readonly lanes = new Map<string, Lane>();
  /** Windows that wait behind another one of their lane. */
  readonly behind = { windows: 0, messages: 0 };

  /** A window is ready. @returns false if it has to wait */
  enter(open: InFlightWindow): boolean {
    const { ofRows } = open;
    if (!ofRows) return true;
    const lane = this.lanes.get(ofRows.lane);
    if (!lane) {
      this.lanes.set(ofRows.lane, { current: open, waiting: [] });
      return true;
    }
    if (lane.current === open) return true;
    const isLast = numberOf(lane.waiting.at(-1)) < ofRows.number;
    const before = isLast ? -1 : lane.waiting.findIndex((other) => numberOf(other) > ofRows.number);
    lane.waiting.splice(before === -1 ? lane.waiting.length : before, 0, open);
    this.count(open, 1);
    return false;
  }

  /** A window that waited is run out of turn. */
  takeOut(open: InFlightWindow): boolean {
    const waiting = open.ofRows && this.lanes.get(open.ofRows.lane)?.waiting;
    const at = waiting?.indexOf(open) ?? -1;
    if (at === -1) return false;
    waiting?.splice(at, 1);
    this.count(open, -1);
    return true;
  }

  /** A window does not run any more. @returns the one whose turn it is */
  leave(open: InFlightWindow): InFlightWindow | undefined {
    const { ofRows } = open;
    const lane = ofRows && this.lanes.get(ofRows.lane);
    if (lane?.current !== open) return undefined;
    const next = lane.waiting.shift();
    if (next) {
      lane.current = next;
      this.count(next, -1);
    } else this.lanes.delete(ofRows!.lane);
    return next;
  }

  /** Whether another window of its lane is ready or runs. */
  isTaken({ ofRows }: InFlightWindow): boolean {
    return ofRows !== undefined && this.lanes.has(ofRows.lane);
  }

  private count({ messages }: InFlightWindow, sign: 1 | -1): void {
    this.behind.windows += sign;
    this.behind.messages += sign * messages.length;
  }

  *[Symbol.iterator](): Iterator<InFlightWindow> {
    for (const { waiting } of this.lanes.values()) yield* waiting;
  }
}

function numberOf(open: InFlightWindow | undefined): number {
  return open?.ofRows?.number ?? 0;
}
