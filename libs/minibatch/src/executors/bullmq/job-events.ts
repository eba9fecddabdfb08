import { BACKGROUND_CLOCK, delay } from '../../common/clock.js';
import type { JobQueue } from './job-queue.js';
import type { Queue, QueueEvents, RedisClient } from './packages.js';

/** After these a job is looked up. */
const ENDS = ['completed', 'failed', 'stalled', 'duplicated'];
/** Until events are read again, if they could not be read; milliseconds. */
const PAUSE = 100;

export interface JobEventsParts {
  readonly jobs: Pick<JobQueue, 'wake' | 'begun' | 'sweep'>;
  readonly queue: Queue;
  readonly client: RedisClient;
  /** @param from the id of an event; those after it are read */
  readonly make: (from: string) => QueueEvents;
}

/**
 * Tells the jobs of one queue what happens to them.
 *
 * BullMQ stops reading for good at an event that is no JSON, such as the `NaN` that a worker in Python may return. Then all jobs that are
 * out are looked up, and what comes after is read by a new reader.
 */
export class JobEvents {
  private events: QueueEvents | undefined;
  private isClosed = false;

  constructor(private readonly parts: JobEventsParts) {}

  /** When it resolves, no event is missed from then on. @throws if Redis does not answer */
  async open(): Promise<void> {
    const { jobs, queue, client, make } = this.parts;
    // By itself, BullMQ reads from when its connection stands: a job that ends before would be found by the next sweep.
    const [last] = await client.xrevrange(queue.toKey('events'), '+', '-', 'COUNT', 1);
    if (this.isClosed) return;
    const events = make(last?.[0] ?? '0');
    this.events = events;
    events.on('error', () => undefined);
    for (const event of ENDS) events.on(event, ({ jobId }) => jobs.wake(jobId));
    events.on('active', ({ jobId }) => jobs.begun(jobId));
    events.run().catch(() => this.reopen(events));
  }

  async close(): Promise<void> {
    this.isClosed = true;
    await this.events?.close();
  }

  private async reopen(events: QueueEvents): Promise<void> {
    void events.close().catch(() => undefined);
    for (let isOpen = false; !isOpen && !this.isClosed;) {
      await delay(BACKGROUND_CLOCK, PAUSE);
      isOpen = await this.open().then(
        () => true,
        () => false,
      );
    }
    await this.parts.jobs.sweep();
  }
}
