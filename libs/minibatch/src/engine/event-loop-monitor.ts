import type { Clock } from '../common/clock.js';

/** Beats a lease time. */
const BEATS = 6;

/**
 * Notices that the process did not come to its timers for a time: the event loop was blocked, or the process was stopped. Only
 * afterwards, of course.
 */
export class EventLoopMonitor {
  private cancel: (() => void) | undefined;

  /**
   * @param leaseTime milliseconds
   * @param beat called with the milliseconds by which the beat was late
   */
  constructor(
    private readonly clock: Clock,
    private readonly leaseTime: number,
    private readonly beat: (late: number) => void,
  ) {}

  start(): void {
    const pause = this.leaseTime / BEATS;
    const due = this.clock.monotonic() + pause;
    this.cancel = this.clock.schedule(pause, () => {
      this.beat(this.clock.monotonic() - due);
      this.start();
    });
  }

  stop(): void {
    this.cancel?.();
  }
}
