import type { Activity } from '../internal/activity.js';
import { type Clock, delay } from '../internal/clock.js';
import type { RateLimit } from './emitter.interface.js';

interface Start {
  /** Monotonic. */
  readonly at: number;
  readonly cost: number;
}

/**
 * Lets runs of a handler begin so that no period of `per` holds more than `most`, wherever it begins. (A bucket that refills would let
 * twice as many through in a period that begins before a burst; who counts calls on the other side would refuse them.)
 *
 * A window of more messages than `most` begins when nothing counts any more, and then counts for as many periods as it takes.
 */
export class RateLimiter {
  private starts: Start[] = [];
  /** Turns are taken in the order of the calls. */
  private turn: Promise<unknown> = Promise.resolve();
  /** Windows that wait. */
  waiting = 0;

  constructor(
    private readonly limit: RateLimit,
    private readonly clock: Clock,
    private readonly activity: Activity,
  ) {}

  /** Resolves with true when the run may begin, with false if the signal aborts before. */
  async admit(messages: number, signal: AbortSignal): Promise<boolean> {
    const cost = this.limit.unit === 'windows' ? 1 : messages;
    const before = this.turn;
    const admitted = before.then(() => this.wait(cost, signal));
    this.turn = admitted;
    this.waiting += 1;
    try {
      return await this.activity.aside(admitted);
    } finally {
      this.waiting -= 1;
    }
  }

  private async wait(cost: number, signal: AbortSignal): Promise<boolean> {
    for (;;) {
      if (signal.aborted) return false;
      const wait = this.pause(cost);
      if (wait <= 0) {
        this.starts.push({ at: this.clock.monotonic(), cost });
        return true;
      }
      await delay(this.clock, wait, signal);
    }
  }

  /** Milliseconds until so much may begin. */
  private pause(cost: number): number {
    // An empty window costs no messages.
    if (cost === 0) return 0;
    const { most } = this.limit;
    const now = this.clock.monotonic();
    this.starts = this.starts.filter((start) => this.counts(start) > now);
    let room = most - this.starts.reduce((sum, start) => sum + start.cost, 0);
    // As much as ever fits.
    const needed = Math.min(cost, most);
    if (needed <= room) return 0;
    for (const start of this.starts) {
      room += start.cost;
      if (needed <= room) return this.counts(start) - now;
    }
    return 0;
  }

  /** Until when it counts. */
  private counts({ at, cost }: Start): number {
    const { most, per } = this.limit;
    return at + per * Math.max(1, Math.ceil(cost / most));
  }
}
