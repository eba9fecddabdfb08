import type { Activity } from '../common/activity.js';
import { type Clock, delay } from '../common/clock.js';

/** A check takes a command of its own: its interval, as a multiple of a poll's. */
const FACTOR = 10;

/** Consumers that have read all there is and hold some of it, for they are the ones that a flush is for. */
export interface HoldingConsumers {
  /** Differs from the one before if anything has happened. Undefined: there are none. */
  readonly fingerprint: string | undefined;
  readonly streams: readonly string[];
}

/**
 * Polls for what other processes ask of a stream (`flush`, `pause`, `clear`, requests of operators) while windows of it are incomplete:
 * often while messages come and go, ever less often while they only wait. Otherwise the lease rounds read it.
 */
export class StreamControlPoller {
  private readonly stopped = new AbortController();
  private readonly shortest: number;
  private pause: number;
  private readonly longest: number;
  private fingerprint: string | undefined;

  constructor(
    polling: { readonly busy: number; readonly idle: number },
    private readonly clock: Clock,
    private readonly activity: Activity,
    private readonly waiting: () => HoldingConsumers,
    /** Reads what is asked of these streams, and sees to it. */
    private readonly poll: (streams: readonly string[]) => Promise<void>,
  ) {
    this.shortest = Math.min(polling.busy * FACTOR, polling.idle);
    this.longest = polling.idle;
    this.pause = this.shortest;
  }

  start(): void {
    void this.go();
  }

  stop(): void {
    this.stopped.abort();
  }

  private async go(): Promise<void> {
    let waited = 0;
    while (!this.stopped.signal.aborted) {
      await delay(this.clock, this.shortest, this.stopped.signal);
      if (this.stopped.signal.aborted) return;
      waited += this.shortest;
      const { fingerprint, streams } = this.waiting();
      const isNew = fingerprint !== this.fingerprint;
      this.fingerprint = fingerprint;
      if (fingerprint === undefined || (!isNew && waited < this.pause)) continue;
      this.pause = isNew ? this.shortest : Math.min(this.pause * 2, this.longest);
      waited = 0;
      // The rounds of leases say what is wrong with the store.
      await this.activity.track(() => this.poll(streams)).catch(() => undefined);
    }
  }
}
