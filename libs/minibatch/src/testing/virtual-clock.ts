import type { Clock } from '../common/clock.js';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Timers that may fire at one and the same time; far more than any application has. */
const MOST_AT_ONCE = 100_000;

/**
 * A clock that stands still until a test moves it. Timers fire in the order of their times, each at its own time, and
 * between two of them everything they started is given time to end.
 */
export class VirtualClock implements Clock {
  private wall: number;
  private ticks = 0;
  private order = 0;
  private readonly timers = new Set<Timer>();

  /** @param start milliseconds since the epoch, or a date. @default 2026-01-01T00:00:00Z */
  constructor(start: number | Date = Date.UTC(2026, 0, 1)) {
    this.wall = Math.round(Number(start));
  }

  now(): number {
    return this.wall;
  }

  monotonic(): number {
    return this.ticks;
  }

  /** As the system's, a timer counts whole milliseconds and never fires early. */
  schedule(ms: number, callback: () => void): () => void {
    const timer = { at: this.ticks + Math.max(0, Math.ceil(ms)), order: this.order++, callback };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  /**
   * Lets `ms` milliseconds pass, rounded to whole ones: two clocks with fractions would disagree by a rounding error, and a loop
   * that waits for one of them and asks the other would never end.
   * @param settled awaited before each step: resolves when what is in flight has ended. @default a turn of the event loop
   */
  async advance(ms: number, settled: () => Promise<void> = eventLoopTurn): Promise<void> {
    const target = this.ticks + Math.round(ms);
    let [time, fired] = [this.ticks, 0];
    for (;;) {
      await settled();
      const due = this.next(target);
      if (!due) break;
      fired = this.ticks === time ? fired + 1 : 0;
      time = this.ticks;
      if (fired > MOST_AT_ONCE) {
        throw new Error(
          `VirtualClock: ${MOST_AT_ONCE} timers fired and the time is still ${new Date(this.wall).toISOString()}. ` +
            'Something schedules its next timer without a delay, so that advance() would never end.',
        );
      }
      this.pass(Math.max(0, due.at - this.ticks));
      this.timers.delete(due);
      due.callback();
    }
    // Another call may have moved it further meanwhile.
    this.pass(Math.max(0, target - this.ticks));
    await settled();
  }

  /** Lets time pass as for a process that is stopped: no timer fires; what fell due meanwhile fires with the next `advance`. */
  sleep(ms: number): void {
    this.pass(Math.round(ms));
  }

  /** Sets the wall clock forward or back, as an administrator or a time server would; no timer notices. */
  jump(ms: number): void {
    this.wall += Math.round(ms);
  }

  private pass(ms: number): void {
    this.ticks += ms;
    this.wall += ms;
  }

  private next(until: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.timers) {
      if (timer.at > until) continue;
      if (!first || timer.at < first.at || (timer.at === first.at && timer.order < first.order)) first = timer;
    }
    return first;
  }
}

function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
