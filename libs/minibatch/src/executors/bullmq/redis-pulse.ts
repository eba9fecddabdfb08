import type { Clock } from '../../common/clock.js';
import type { ExecutorUnavailable } from '../../errors/executor-errors.js';
import type { RedisLink } from './redis-link.js';

/** What is written lives for so long; milliseconds. */
const SHORT = 1_000;

/**
 * Whether Redis answers and takes writes. If it does neither, no worker can renew its lock or store its result, though the connection stands:
 * its process was stopped, or its memory is full. What then becomes of a job says nothing of its window.
 */
export class RedisPulse {
  private inFlight: Promise<void> | undefined;
  private fault: ExecutorUnavailable | undefined;
  private backAt = Number.NEGATIVE_INFINITY;

  /**
   * @param key what is written
   * @param patience an answer that takes longer than these milliseconds counts as none
   */
  constructor(
    private readonly link: Pick<RedisLink, 'client' | 'isReady' | 'away' | 'wasAway'>,
    private readonly clock: Clock,
    private readonly key: string,
    private readonly patience: number,
  ) {}

  /** Asks, unless an answer is awaited. The client rejects what is not answered in time. */
  beat(): Promise<void> {
    this.inFlight ??= this.ask().finally(() => {
      this.inFlight = undefined;
    });
    return this.inFlight;
  }

  /** @throws ExecutorUnavailable if it could not be used the last time, and can't now */
  async check(): Promise<void> {
    if (!this.fault) return;
    await this.beat();
    if (this.fault) throw this.fault;
  }

  /** Why it can't be used; undefined if it can, as far as is known. */
  get trouble(): ExecutorUnavailable | undefined {
    return this.fault;
  }

  /** It could not be used, or was another one, within these milliseconds. */
  wasAway(within: number): boolean {
    return this.fault !== undefined || this.clock.monotonic() - this.backAt < within || this.link.wasAway(within);
  }

  private async ask(): Promise<void> {
    const { link, clock, key, patience } = this;
    // Then each command fails at once.
    if (!link.isReady) return;
    const asked = clock.monotonic();
    try {
      await link.client.set(key, '', 'PX', SHORT);
    } catch (error) {
      this.fault = link.away(error);
      return;
    }
    const isLate = clock.monotonic() - asked > patience;
    if (isLate || this.fault) this.backAt = clock.monotonic();
    this.fault = undefined;
  }
}
