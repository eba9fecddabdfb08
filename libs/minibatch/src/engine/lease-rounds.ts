import { setImmediate } from 'node:timers/promises';
import type { Activity } from '../common/activity.js';
import { backoff } from '../common/backoff.js';
import { type Clock, delay } from '../common/clock.js';
import type { Log } from '../common/log.js';
import { messageOf } from '../errors/minibatch.error.js';
import type { LeaseKeeper } from './lease-keeper.js';

/** Waits between the tries of a round that the store did not answer. */
const ROUND_BACKOFF = { base: 250, max: 5_000, jitter: 0.3 };

/** Calls the lease keeper when it is time to: a round renews this process's leases and competes for others. */
export class LeaseRounds {
  private running: Promise<void> = Promise.resolve();
  private endPause: (() => void) | undefined;
  private failing = false;

  constructor(
    private readonly keeper: LeaseKeeper,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly activity: Activity,
    /** One round. */
    private readonly round: () => Promise<void>,
    /** Called with what a round has failed with. */
    private readonly failed: (error: unknown) => void,
    /** Aborts when the engine is stopping: then no round follows. */
    private readonly stopping: AbortSignal,
  ) {}

  start(): void {
    this.running = this.run();
  }

  /** The last round has failed: no lease can be renewed or acquired. */
  get isFailing(): boolean {
    return this.failing;
  }

  /** Settles when the last round has ended. */
  get ended(): Promise<void> {
    return this.running;
  }

  /**
   * The next round begins without a pause. It begins in the next turn of the event loop: a round looks at all consumers, so thousands that come
   * one by one are to share it, and timers and signals are to come in between.
   */
  hurry(): void {
    const { endPause } = this;
    if (!endPause) return;
    this.endPause = undefined;
    void this.activity.track(async () => {
      await setImmediate();
      endPause();
    });
  }

  /** For an engine that is stopping, which may take longer than a lease: renews and does not compete. */
  async renewUntil(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted;) {
      await delay(this.clock, failures > 0 ? backoff(ROUND_BACKOFF, failures) : this.keeper.renewalPause, signal);
      if (signal.aborted) return;
      try {
        await this.keeper.renewDue();
        failures = 0;
      } catch {
        // Seen by the next task that needs the lease.
        failures += 1;
      }
    }
  }

  private async run(): Promise<void> {
    for (let failures = 0; !this.stopping.aborted;) {
      try {
        await this.activity.track(this.round);
        failures = 0;
        this.failing = false;
      } catch (error) {
        failures += 1;
        this.failing = true;
        this.failed(error);
        if (failures === 1 && !this.stopping.aborted)
          this.log.warn(`Can't renew leases, retrying: ${messageOf(error)}`);
      }
      if (!this.stopping.aborted) {
        await this.pause(failures > 0 ? backoff(ROUND_BACKOFF, failures) : this.keeper.pause);
      }
    }
  }

  private async pause(ms: number): Promise<void> {
    const pause = new AbortController();
    this.endPause = () => pause.abort();
    await delay(this.clock, ms, pause.signal);
    this.endPause = undefined;
  }
}
