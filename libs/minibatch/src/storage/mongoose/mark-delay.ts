import { type ConsumerKey, consumerId } from '../stream-store.interface.js';

/** A group that has claimed in this process within this time, or since the last two settlements, is active here; milliseconds. */
const LATELY = 1_000;
/** A group waits as long as two of its own settlements take: another group at the same pace has settled by then. Milliseconds. */
const PATIENCE = { least: 50, most: 3_000, settlements: 2, unknownPace: 300 };
/** A group that settles less often gains nothing by waiting; milliseconds. */
const SLOW = 2_000;
/** After each unsuccessful wait, more settlements do not wait at all, up to this number. */
const MOST_SKIPPED = 64;

/**
 * Decides whether a group that has committed messages waits a moment for the other groups of this process before it marks them. Groups that
 * go through a stream together commit the same messages shortly after one another: then the last one removes them, and none has to mark
 * them. If other groups lag behind, a group waits only briefly, and less and less often.
 */
export class MarkDelay {
  private readonly lastClaim = new Map<string, number>();
  /** By consumer: when it last settled, and the interval between its settlements. */
  private readonly pace = new Map<string, { readonly at: number; readonly interval: number }>();
  /** By consumer: consecutive unsuccessful waits, and settlements until the next wait. */
  private readonly vain = new Map<string, { misses: number; skip: number }>();

  /** @param clock monotonic, milliseconds */
  constructor(private readonly clock: () => number = () => performance.now()) {}

  claimed(key: ConsumerKey): void {
    this.lastClaim.set(consumerId(key), this.clock());
  }

  /** How long the group should wait for the others now, in milliseconds; 0 if not at all. */
  delay(key: ConsumerKey, others: readonly string[]): number {
    const now = this.clock();
    const interval = this.intervalUntil(key, now);
    const usual = Math.min(PATIENCE.settlements * interval, PATIENCE.most);
    const since = now - Math.max(LATELY, usual);
    const isHere = (group: string) =>
      (this.lastClaim.get(consumerId({ ...key, group })) ?? Number.NEGATIVE_INFINITY) > since;
    if (!others.every(isHere)) return 0;
    const vain = this.vain.get(consumerId(key));
    if (vain !== undefined && vain.skip > 0) {
      vain.skip -= 1;
      return 0;
    }
    if (interval === 0) return PATIENCE.unknownPace;
    if (interval > SLOW) return PATIENCE.least;
    return Math.max(usual, PATIENCE.least);
  }

  /** The average interval between settlements of the consumer. */
  private intervalUntil(key: ConsumerKey, now: number): number {
    const id = consumerId(key);
    const last = this.pace.get(id);
    if (!last) {
      this.pace.set(id, { at: now, interval: 0 });
      return 0;
    }
    const interval = last.interval === 0 ? now - last.at : (last.interval + now - last.at) / 2;
    this.pace.set(id, { at: now, interval });
    return interval;
  }

  /** The consumer has left. */
  forget(key: ConsumerKey): void {
    const id = consumerId(key);
    for (const known of [this.lastClaim, this.pace, this.vain]) known.delete(id);
  }

  /** Records the result of a wait. */
  waited(key: ConsumerKey, inVain: boolean): void {
    const id = consumerId(key);
    if (!inVain) {
      this.vain.delete(id);
      return;
    }
    const misses = (this.vain.get(id)?.misses ?? 0) + 1;
    this.vain.set(id, { misses, skip: Math.min(2 ** misses, MOST_SKIPPED) });
  }
}
