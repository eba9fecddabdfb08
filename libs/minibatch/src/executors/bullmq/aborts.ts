import type { Clock } from '../../common/clock.js';
import { isA } from '../../errors/error-text.js';
import type { RedisClient } from './packages.js';

/** Tells the workers that the result of a job does not count any more. It may be lost: then the method runs to its end for nothing. */
export interface AbortOrder {
  readonly job: string;
  readonly reason: string;
  /** When it was given, by the clock that has stamped the job; milliseconds. */
  readonly at: number;
}

/** What is known of a job. */
interface StampedJob {
  readonly id?: string;
  /** When it was added, by the clock of its emitter; milliseconds. */
  readonly timestamp: number;
}

/**
 * The channel of a queue, for its database alone: keys are of one database, but channels are of all of them, and another application may
 * have a queue of the same name there.
 *
 * @param key `aborts`, with all that stands before the keys of the queue
 */
export function abortChannel(key: string, client: RedisClient): string {
  return `${key}@${Number(client.options.db ?? 0)}`;
}

/** The jobs that run in this worker, and what ends them. */
export class RunningJobs {
  private readonly running = new Map<string, AbortController>();
  /** Orders for jobs that do not run here, and until when they are kept. The job may be on its way to this worker. */
  private readonly early = new Map<string, { readonly order: AbortOrder; readonly until: number }>();

  /** @param keep how long an order may come before its job; milliseconds */
  constructor(
    client: RedisClient,
    private readonly clock: Clock,
    private readonly keep: number,
  ) {
    client.on('message', (_, message) => {
      const order = orderOf(message);
      if (order) this.received(order);
    });
  }

  get size(): number {
    return this.running.size;
  }

  async run<R>({ id = '', timestamp }: StampedJob, work: (signal: AbortSignal) => Promise<R>): Promise<R> {
    const controller = new AbortController();
    this.running.set(id, controller);
    const order = this.early.get(id)?.order;
    this.early.delete(id);
    // The same job may have been added again after the order.
    if (order && order.at >= timestamp) this.abort(id, order.reason);
    try {
      return await work(controller.signal);
    } finally {
      if (this.running.get(id) === controller) this.running.delete(id);
    }
  }

  abort(id: string, reason: string): void {
    this.running.get(id)?.abort(new Error(reason));
  }

  private received(order: AbortOrder): void {
    const { job, reason } = order;
    if (this.running.has(job)) {
      this.abort(job, reason);
      return;
    }
    const now = this.clock.monotonic();
    for (const [id, { until }] of this.early) if (until < now) this.early.delete(id);
    this.early.set(job, { order, until: now + this.keep });
  }
}

function orderOf(message: string): AbortOrder | undefined {
  try {
    const { job, reason, at } = JSON.parse(message) as Partial<AbortOrder>;
    return typeof job === 'string' && typeof reason === 'string' && typeof at === 'number'
      ? { job, reason, at }
      : undefined;
  } catch (error) {
    if (isA(error, Error)) return undefined;
    throw error;
  }
}
