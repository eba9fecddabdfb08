import type { Source, SourceTarget } from '../../sources/source.interface.js';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import { MessageProblems } from '../message-problems.js';
import { type CeleryEventSourceOptions, type ResolvedCeleryOptions, resolveCelery } from './celery-source.options.js';
import { type CeleryEventCounters, newCeleryCounters } from './event-counters.js';
import { type Connect, EventFeed } from './event-feed.js';
import { EventAppender, type IncomingMessage, nameOfIncoming } from './event-appender.js';
import type { FeedContext } from './feed-context.js';
import { RabbitmqConnection } from './rabbitmq-connection.js';
import { RedisConnection } from './redis-connection.js';
import { TaskMemory } from './task-memory.js';
import type { CeleryTaskEvent } from './task-message.js';

/**
 * Feeds a stream with what happens to the tasks of a Celery application, by its broker: Redis or RabbitMQ, as the URL says. The
 * workers have to send events (`celery worker -E`).
 *
 * A message is a {@link CeleryTaskEvent}, its key the task's id; the headers `celery-hostname` and `celery-timestamp` say who sent the event
 * and when (seconds since the epoch). An event that is delivered twice, or received by several replicas, is stored once (by a dedupe id
 * of task, type and time).
 *
 * Celery sends events to those who listen. So with Redis, and with RabbitMQ without `queue`, events that are sent while nobody listens are
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
  private readonly counted = newCeleryCounters();
  /** By the signal that ends them: a feed outlives a failed append. */
  private readonly feeds = new WeakMap<AbortSignal, EventFeed>();

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: CeleryEventSourceOptions) {
    this.options = resolveCelery(new.target.name, options);
    this.memory = new TaskMemory(this.options.rememberTasks);
  }

  /** What it has seen since it was made. */
  get counters(): CeleryEventCounters {
    return { ...this.counted };
  }

  /**
   * @throws MinibatchError `MissingPackage`; `SourceFailed` with `details.reason`: `UNREACHABLE`, `LOST`, `UNAUTHORIZED`, `DECLARATION`
   *   (the exchange or the queue is not what it has to be), `UNSTORABLE`
   */
  async stream(target: SourceTarget<T>, signal: AbortSignal): Promise<void> {
    await this.feedOf(target as SourceTarget, signal).run();
  }

  private feedOf(target: SourceTarget, signal: AbortSignal): EventFeed {
    const known = this.feeds.get(signal);
    if (known && !known.over) return known;
    const { where, broker, maxPending, unstorable } = this.options;
    const context: FeedContext = {
      where,
      counters: this.counted,
      clock: target.clock ?? SYSTEM_CLOCK,
      log: target.log,
    };
    const problems = new MessageProblems<IncomingMessage>({
      ...context,
      nameOf: nameOfIncoming,
      unstorable: typeof unstorable === 'function' ? ({ data }, error) => unstorable(data, error) : unstorable,
    });
    const appender = new EventAppender(target, this.options, this.memory, problems, this.counted);
    // RabbitMQ bounds what is in flight by `prefetch`.
    const most = broker.kind === 'redis' ? maxPending : Infinity;
    const feed = new EventFeed(context, this.connectBy(context), appender, signal, most);
    this.feeds.set(signal, feed);
    return feed;
  }

  private connectBy(context: FeedContext): Connect {
    const { options } = this;
    const { broker } = options;
    return broker.kind === 'redis'
      ? (listener, signal) => RedisConnection.open(broker, options, context, listener, signal)
      : (listener, signal) => RabbitmqConnection.open(broker, options, context, listener, signal);
  }
}
