import { messageOf } from '../errors/minibatch.error.js';
import type { Activity } from '../internal/activity.js';
import { type Clock, delay } from '../internal/clock.js';
import type { StreamStore } from '../storage/stream-store.interface.js';
import type { EngineLog } from './emitter.interface.js';

/** A mark is swept at the latest after this share of the dedupe time more than it. */
const SHARE = 1 / 24;
const SHORTEST_PAUSE = 60_000;
const LONGEST_PAUSE = 3_600_000;

/**
 * Removes the marks that committed messages with a `dedupeId` leave behind, once their time is over; else they would gather
 * without end. Done by whoever holds a lease of the stream; two that do it at once do no harm.
 */
export class Sweeper {
  private readonly stopped = new AbortController();

  constructor(
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly log: EngineLog,
    private readonly activity: Activity,
    /** How long a `dedupeId` is remembered after its message was committed; milliseconds. */
    private readonly dedupeTime: number,
    private readonly streams: () => Iterable<string>,
  ) {}

  start(): void {
    void this.run();
  }

  stop(): void {
    this.stopped.abort();
  }

  private async run(): Promise<void> {
    const { signal } = this.stopped;
    const pause = Math.min(Math.max(this.dedupeTime * SHARE, SHORTEST_PAUSE), LONGEST_PAUSE);
    for (;;) {
      await delay(this.clock, pause, signal);
      for (const stream of new Set(this.streams())) {
        if (signal.aborted) return;
        await this.activity.track(() => this.sweep(stream));
      }
      if (signal.aborted) return;
    }
  }

  private async sweep(stream: string): Promise<void> {
    try {
      const before = new Date(this.clock.now() - this.dedupeTime);
      const { tombstones } = await this.store.sweep(stream, { tombstones: before });
      if (tombstones > 0) this.log.log(`'${stream}': forgot ${tombstones} dedupe ids older than ${this.dedupeTime} ms`);
    } catch (error) {
      // It is tried again with the next round.
      if (!this.stopped.signal.aborted) this.log.warn(`'${stream}': could not sweep dedupe ids: ${messageOf(error)}`);
    }
  }
}
