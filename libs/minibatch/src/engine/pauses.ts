import type { Activity } from '../common/activity.js';
import { type Clock, delay } from '../common/clock.js';
import { LiveSet } from '../common/live-set.js';

/**
 * The waits of running windows for their next attempt, and of their sinks for the next try: as long as all of them wait, none is about
 * to finish, and what is finished need not wait for them with its commit.
 */
export class Pauses {
  private readonly pauses = new LiveSet<{ readonly until: number }>();
  /** Sinks that are not done yet, beyond the first one of each window: each of them pauses alone. */
  private moreSinks = 0;

  constructor(
    private readonly clock: Clock,
    private readonly activity: Activity,
    /** Called when a pause begins. */
    private readonly began: () => void,
  ) {}

  /** Waits, or until the signal aborts. */
  async pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    const pause = { until: this.clock.monotonic() + milliseconds };
    this.pauses.add(pause);
    this.began();
    try {
      await this.activity.aside(delay(this.clock, milliseconds, signal));
    } finally {
      this.pauses.delete(pause);
    }
  }

  /** A result goes to this many sinks at the same time. */
  delivering(sinks: number): void {
    this.moreSinks += sinks - 1;
  }

  /** @param left sinks of the same result that are not done yet */
  delivered(left: number): void {
    if (left === 0) return;
    this.moreSinks -= 1;
    this.began();
  }

  /**
   * Milliseconds until the first pause is over; 0 if a window does not pause.
   *
   * @param running windows that run, but for those that the rate limit holds back
   */
  hold(running: number): number {
    const { size } = this.pauses;
    if (size < running + this.moreSinks) return 0;
    if (size === 0) return Infinity;
    const now = this.clock.monotonic();
    let hold = Infinity;
    for (const { until } of this.pauses) hold = Math.min(hold, until - now);
    return hold;
  }
}
