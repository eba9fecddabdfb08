import type { Activity } from '../internal/activity.js';
import { type Clock, delay } from '../internal/clock.js';
import type { RateStart } from '../storage/stream-store.interface.js';
import type { RateLimit } from './emitter.interface.js';

/** So many starts are stored at the most: beyond them neighbours are taken together, as if all had been as late as the last. */
const STORED = 64;

interface Start {
  /** Monotonic. */
  readonly at: number;
  readonly cost: number;
}

/**
 * Lets runs of a handler begin so that no period of `per` holds more than `most`, wherever it begins. (A bucket that refills would let
 * twice as many through in a period that begins before a burst; who counts calls on the other side would refuse them.)
 *
 * What counts is stored with the consumer before a run begins (`stored`), so that whoever works for it next goes on from there (`restore`).
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

  /** What counts now, for the next process; times are those of the wall clock. */
  stored(): readonly RateStart[] {
    this.forget();
    const starts = this.starts.filter(({ cost }) => cost > 0);
    const { clock } = this;
    const offset = clock.now() - clock.monotonic();
    const share = Math.ceil(starts.length / STORED);
    const stored: RateStart[] = [];
    for (let from = 0; from < starts.length; from += share) {
      const some = starts.slice(from, from + share);
      const at = Math.max(...some.map((start) => start.at));
      stored.push({ at: new Date(Math.ceil(offset + at)), cost: some.reduce((sum, { cost }) => sum + cost, 0) });
    }
    return stored;
  }

  /**
   * Goes on from what another process has stored. The clocks of two machines may differ: a time in the future is taken for now, so no
   * wait is longer than the limit asks for.
   */
  restore(stored: readonly RateStart[]): void {
    const { clock } = this;
    const now = clock.now();
    this.starts = stored.map(({ at, cost }) => ({ at: clock.monotonic() - Math.max(0, now - at.getTime()), cost }));
  }

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
    const now = this.forget();
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

  private forget(): number {
    const now = this.clock.monotonic();
    this.starts = this.starts.filter((start) => this.counts(start) > now);
    return now;
  }

  /** Until when it counts. */
  private counts({ at, cost }: Start): number {
    const { most, per } = this.limit;
    return at + per * Math.max(1, Math.ceil(cost / most));
  }
}
