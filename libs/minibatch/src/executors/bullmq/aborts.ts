import { isA } from '../../errors/error-text.js';
import type { RedisClient } from './packages.js';

/** Tells a worker that the result of a job does not count any more. It may be lost: then the method runs to its end for nothing. */
export interface AbortOrder {
  readonly job: string;
  readonly reason: string;
}

/** The channel of a queue, beside its keys. */
export function abortChannel(queue: { toKey(type: string): string }): string {
  return queue.toKey('aborts');
}

/** The jobs that run in this worker, and what ends them. */
export class RunningJobs {
  private readonly running = new Map<string, AbortController>();

  constructor(client: RedisClient) {
    client.on('message', (_, message) => {
      const order = orderOf(message);
      if (order) this.abort(order.job, order.reason);
    });
  }

  get size(): number {
    return this.running.size;
  }

  async run<R>(id: string, work: (signal: AbortSignal) => Promise<R>): Promise<R> {
    const controller = new AbortController();
    this.running.set(id, controller);
    try {
      return await work(controller.signal);
    } finally {
      if (this.running.get(id) === controller) this.running.delete(id);
    }
  }

  abort(id: string, reason: string): void {
    this.running.get(id)?.abort(new Error(reason));
  }
}

function orderOf(message: string): AbortOrder | undefined {
  try {
    const { job, reason } = JSON.parse(message) as Partial<AbortOrder>;
    return typeof job === 'string' && typeof reason === 'string' ? { job, reason } : undefined;
  } catch (error) {
    if (isA(error, Error)) return undefined;
    throw error;
  }
}
