import { type Clock, delay } from '../common/clock.js';
import type { Log } from '../common/log.js';
import { isA } from '../errors/error-text.js';
import { ExecutorUnavailable } from '../errors/executor-errors.js';
import { messageOf } from '../errors/minibatch.error.js';
import { executorName } from '../executors/executor-ref.js';
import type {
  BoundExecutor,
  Executor,
  ExecutorConsumer,
  ExecutorWorker,
  ServedConsumer,
} from '../executors/executor.interface.js';
import { encodeTask } from '../executors/task-codec.js';

/** What runs the windows of consumers that name no executor. */
export type DefaultExecutor = Executor | 'inline';

/** The consumers of one executor. */
interface Registered {
  readonly consumers: ExecutorConsumer[];
  /** How many of them it was opened for. */
  opened: number;
  /** Those whose methods run here for other processes; nothing else is in a process of that role. */
  readonly serves: ServedConsumer[];
  /** How many of them it was told of. */
  served: number;
}

/** The executors of this process: who uses which, and when each is opened and closed. */
export class ExecutorRegistry {
  private readonly registered = new Map<Executor, Registered>();

  constructor(
    private readonly byDefault: DefaultExecutor,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** @returns undefined if the consumer's method runs in this process */
  bind(choice: DefaultExecutor | undefined, consumer: ExecutorConsumer): BoundExecutor | undefined {
    const executor = choice ?? this.byDefault;
    if (executor === 'inline') return undefined;
    const { consumers } = this.of(executor);
    consumers.push(consumer);
    return { executor, consumer, encode: encodeTask };
  }

  /**
   * For a process in the role of a worker.
   *
   * @returns the executor that is to bring the windows; undefined if it leaves that to the application
   */
  bindServed(choice: DefaultExecutor | undefined, consumer: ServedConsumer): Executor | undefined {
    const executor = choice ?? this.byDefault;
    if (executor === 'inline' || !executor.serve) return undefined;
    this.of(executor).serves.push(consumer);
    return executor;
  }

  /** Opens each executor for the consumers that have come since. @throws what an executor rejects with, except `ExecutorUnavailable` */
  async open(): Promise<void> {
    for (const [executor, registered] of this.registered) {
      const fresh = registered.consumers.slice(registered.opened);
      registered.opened = registered.consumers.length;
      if (fresh.length > 0) await this.begin(executor, async () => executor.open?.(fresh));
    }
  }

  /** The same for the consumers whose methods run here for other processes. */
  async serve(worker: Omit<ExecutorWorker, 'consumers'>): Promise<void> {
    for (const [executor, registered] of this.registered) {
      const consumers = registered.serves.slice(registered.served);
      registered.served = registered.serves.length;
      if (consumers.length > 0) await this.begin(executor, async () => executor.serve?.({ ...worker, consumers }));
    }
  }

  private async begin(executor: Executor, begin: () => Promise<void>): Promise<void> {
    try {
      await begin();
    } catch (error) {
      if (!isA(error, ExecutorUnavailable)) {
        // What others have taken would keep the process from ending.
        await this.close(0);
        throw error;
      }
      this.log.warn(`starting without the executor ${executorName(executor)}, its windows wait: ${messageOf(error)}`);
    }
  }

  /** Whatever they do, it is over after `timeout` milliseconds. */
  async close(timeout: number): Promise<void> {
    await Promise.all([...this.registered.keys()].map((executor) => this.closeOne(executor, timeout)));
  }

  private async closeOne(executor: Executor, timeout: number): Promise<void> {
    if (!executor.close) return;
    const over = new AbortController();
    const late = delay(this.clock, timeout + GRACE, over.signal).then(() => {
      if (!over.signal.aborted) this.log.warn(`executor ${executorName(executor)} did not close within ${timeout} ms`);
    });
    try {
      await Promise.race([executor.close(timeout), late]);
    } catch (error) {
      this.log.warn(`executor ${executorName(executor)} did not close: ${messageOf(error)}`);
    } finally {
      over.abort();
    }
  }

  private of(executor: Executor): Registered {
    const registered = this.registered.get(executor) ?? { consumers: [], opened: 0, serves: [], served: 0 };
    this.registered.set(executor, registered);
    return registered;
  }
}

/** An executor that ends at its timeout is not late; milliseconds. */
const GRACE = 500;
