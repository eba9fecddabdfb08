import { Logger } from '@nestjs/common';
import type { Source, SourceTarget } from '../../sources/source.interface.js';
import { type CeleryEventSourceOptions, type ResolvedCeleryOptions, resolveCelery } from './celery-source.options.js';
import { type CeleryEventCounters, noCounts } from './event-counters.js';
import { type Connect, EventFeed } from './event-feed.js';
import { EventAppender } from './event-appender.js';
import { RabbitmqConnection } from './rabbitmq-connection.js';
import { RedisConnection } from './redis-connection.js';
import { TaskMemory } from './task-memory.js';
import type { CeleryTaskEvent } from './task-message.js';

/**
 * Feeds a stream with what happens to the tasks of a Celery application, by its broker: Redis or RabbitMQ, as the URL says. The
 * workers have to send events (`celery worker -E`).
 *
 * A message is a {@link CeleryTaskEvent}, its key the task's id; the headers `hostname` and `timestamp` tell who sent the event
 * and when (seconds since the epoch). An event that is delivered twice, or received by several replicas, is stored once (by a dedupe id
 * of task, type and time).
 *
 * Celery sends events to whoever listens. So by Redis, and by RabbitMQ without `queue`, those that are sent while nobody listens are
 * lost, as they are for Celery's own monitors. With `queue`, RabbitMQ keeps them, and they are acknowledged when they are stored.
 *
 * The name and the arguments of a task come with events of its beginning, which are remembered. So a task that began before the source
 * did is reported without them.
 *
 * @typeParam T the stream's messages; with `raw: true` say `CeleryEvent`
 * @example
 * ```ts
 * @StreamSource('tasks')
 * export class TaskFeed extends CeleryEventSource {
 *   constructor(config: ConfigService) {
 *     super({ url: config.getOrThrow('CELERY_BROKER_URL'), events: ['task-succeeded', 'task-failed', 'task-retried'] });
 *   }
 * }
 * ```
 */
export class CeleryEventSource<T = CeleryTaskEvent> implements Source<T> {
  private readonly options: ResolvedCeleryOptions;
  private readonly memory: TaskMemory;
  private readonly counts = noCounts();
  private readonly log = new Logger('Minibatch');
  /** By the signal that ends them: a feed outlives a failed append. */
  private readonly feeds = new WeakMap<AbortSignal, EventFeed>();

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: CeleryEventSourceOptions) {
    this.options = resolveCelery(new.target.name, options);
    this.memory = new TaskMemory(this.options.rememberTasks);
  }

  /** What it has seen since it was made. */
  get counters(): CeleryEventCounters {
    return { ...this.counts };
  }

  /**
   * @throws MinibatchError `MissingPackage`; `SourceFailed` with `details.reason`: `'CONNECTION'`, `'CREDENTIALS'`,
   *   `'DECLARATION'` (the exchange or the queue is not what it has to be)
   */
  async stream(target: SourceTarget<T>, signal: AbortSignal): Promise<void> {
    await this.feedOf(target as SourceTarget, signal).run();
  }

  private feedOf(target: SourceTarget, signal: AbortSignal): EventFeed {
    const known = this.feeds.get(signal);
    if (known && !known.over) return known;
    const { where, broker, maxPending } = this.options;
    const appender = new EventAppender(target, this.options, this.memory, this.counts, this.log);
    const feed = new EventFeed(
      where,
      this.connectTo(appender),
      appender,
      signal,
      broker.kind === 'redis' ? maxPending : Infinity,
    );
    this.feeds.set(signal, feed);
    return feed;
  }

  private connectTo(appender: EventAppender): Connect {
    const { options } = this;
    const { broker } = options;
    return broker.kind === 'redis'
      ? (listener, signal) => RedisConnection.open(broker, options, appender, listener, signal)
      : (listener, signal) => RabbitmqConnection.open(broker, options, listener, signal);
  }
}
