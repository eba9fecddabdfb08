import type { Clock } from '../../common/clock.js';
import type { Log } from '../../common/log.js';
import type { MutableCeleryCounters } from './event-counters.js';

/** What the parts of one feed share. */
export interface FeedContext {
  readonly where: string;
  readonly counters: MutableCeleryCounters;
  readonly clock: Clock;
  /** Absent for targets of tests. */
  readonly log: Log | undefined;
}
