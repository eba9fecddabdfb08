import { delay, every, SystemClock, within } from '../../common/clock.js';
import { ExecutorUnavailable } from '../../errors/executor-errors.js';
import type { Executor, ExecutorConsumer, ExecutorWorker, WindowOutcome, WindowTask } from '../executor.interface.js';
import { type BullmqOptions, resolveBullmq, type ResolvedBullmq } from './bullmq.options.js';
import { JobEvents } from './job-events.js';
import { JobQueue } from './job-queue.js';
import { JobWorker } from './job-worker.js';
import { loadPackages, type Packages, type Queue } from './packages.js';
import { queueNameOf } from './queue-name.js';
import { CLOSE_WAIT, impatient, PATIENT, RedisLink } from './redis-link.js';
import { RedisPulse } from './redis-pulse.js';

/** How long the start waits for Redis; then it continues without it. Milliseconds. */
const PATIENCE = 5_000;
/** Events that Redis keeps for emitters that are slow to read them; what is lost, the next look finds. */
const MOST_EVENTS = 1_000;

/** The emitter's side of one consumer. */
interface Consumer {
  readonly jobs: JobQueue;
  readonly queue: Queue;
  readonly events: JobEvents;
}

/** The emitters' connection, and what is known of it. */
interface Redis {
  readonly link: RedisLink;
  readonly pulse: RedisPulse;
}

/** Runs methods in other processes, to which BullMQ brings the windows by Redis. */
export class BullmqExecutor implements Executor {
  readonly name = 'bullmq';
  readonly reportsStart = true;
  readonly runsElsewhere = true;
  private readonly options: ResolvedBullmq;
  private readonly clock = new SystemClock();
  private readonly consumers = new Map<string, Consumer>();
  private readonly making = new Map<string, Promise<Consumer>>();
  private packages: Promise<Packages> | undefined;
  private link: RedisLink | undefined;
  private pulse: RedisPulse | undefined;
  private stopSweeps: (() => void) | undefined;
  private stopBeats: (() => void) | undefined;
  private sweeping = false;
  private worker: JobWorker | undefined;
  private workerLinks: RedisLink[] = [];
  private isClosed = false;

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: BullmqOptions) {
    this.options = resolveBullmq(options);
  }

  /** @throws MinibatchError `MissingPackage`, `RedisMayEvict`; ExecutorUnavailable if Redis is away, or nobody serves a consumer */
  async open(consumers: readonly ExecutorConsumer[]): Promise<void> {
    const opened = await Promise.all(consumers.map((consumer) => this.consumerOf(consumer, PATIENCE)));
    for (const { jobs } of opened) if (!(await jobs.hasWorkers())) throw jobs.noWorkers();
  }

  async run(task: WindowTask): Promise<WindowOutcome> {
    if (this.isClosed) throw closed();
    // Only the first connection may take its time: later, windows wait for Redis, and not here.
    const { jobs } = await this.consumerOf(task.consumer, this.link?.wasReady ? 0 : PATIENCE);
    // It may have been closed meanwhile.
    if (this.isClosed) throw closed();
    return jobs.run(task);
  }

  /** @throws MinibatchError `MissingPackage`, `RedisMayEvict`; ExecutorUnavailable if Redis is away */
  async serve(served: ExecutorWorker): Promise<void> {
    const { consumers } = served;
    const packages = await this.loaded();
    const { connection } = this.options;
    const isFirst = this.workerLinks.length === 0;
    if (isFirst) {
      const link = () => new RedisLink(packages, this.clock, { connection, settings: PATIENT });
      this.workerLinks = [link(), link()];
    }
    const [main, orders] = this.workerLinks;
    if (!main || !orders) return;
    this.worker ??= new JobWorker({
      bullmq: packages.bullmq,
      client: main.client,
      subscriber: orders.client,
      options: this.options,
      clock: this.clock,
      load: (key, ids) => served.load(key, ids),
    });
    let away: ExecutorUnavailable | undefined;
    try {
      await main.check(PATIENCE);
    } catch (error) {
      if (!(error instanceof ExecutorUnavailable)) throw error;
      away = error;
    }
    const { worker } = this;
    const begun = Promise.all(consumers.map((consumer) => worker.serve(consumer)));
    // They begin when Redis is there.
    begun.catch(() => undefined);
    if (away) throw away;
    // From then on emitters see them.
    await within(this.clock, PATIENCE, begun);
  }

  async close(timeout: number): Promise<void> {
    this.isClosed = true;
    this.stopSweeps?.();
    this.stopBeats?.();
    const over = new AbortController();
    const idle = async () => {
      while ([...this.consumers.values()].some(({ jobs }) => jobs.size > 0) && !over.signal.aborted)
        await delay(this.clock, 10, over.signal);
    };
    const late = this.clock.schedule(timeout, () => over.abort());
    await Promise.all([idle(), this.worker?.close(timeout)]);
    late();
    for (const { jobs } of this.consumers.values()) jobs.abandon(closed());
    const parts = [...this.consumers.values()].flatMap(({ queue, events }) => [queue, events]);
    this.consumers.clear();
    for (const link of [this.link, ...this.workerLinks]) link?.close();
    this.worker = undefined;
    this.workerLinks = [];
    const closing = Promise.all(parts.map((each) => each.close().catch(() => undefined)));
    await within(this.clock, CLOSE_WAIT, closing);
  }

  private loaded(): Promise<Packages> {
    this.packages ??= loadPackages();
    return this.packages;
  }

  /** @param patience how long to wait for Redis; milliseconds */
  private async consumerOf(consumer: ExecutorConsumer, patience: number): Promise<Consumer> {
    const packages = await this.loaded();
    if (this.isClosed) throw closed();
    const { connection, prefix, lock } = this.options;
    const link = (this.link ??= new RedisLink(packages, this.clock, { connection, settings: impatient(lock) }));
    const pulse = (this.pulse ??= new RedisPulse(link, this.clock, `${prefix}:minibatch:pulse`, lock / 4));
    await link.check(patience);
    await pulse.check();
    const name = queueNameOf(consumer);
    const known = this.consumers.get(name);
    if (known) return known;
    const making = this.making.get(name) ?? this.make(consumer, name, packages, { link, pulse });
    this.making.set(name, making);
    try {
      return await making;
    } finally {
      this.making.delete(name);
    }
  }

  /** BullMQ asks Redis for its version first. A queue that got no answer never works, so that another one is made then. */
  private async make(consumer: ExecutorConsumer, name: string, packages: Packages, redis: Redis): Promise<Consumer> {
    const { link, pulse } = redis;
    const { connection, prefix, lock } = this.options;
    const { clock } = this;
    const { Queue, QueueEvents } = packages.bullmq;
    const streams = { events: { maxLen: MOST_EVENTS } };
    const queue = new Queue(name, { connection: link.client, prefix, streams });
    // Each command says so itself.
    queue.on('error', () => undefined);
    await queue.waitUntilReady().catch((error: unknown) => {
      throw link.away(error);
    });
    if (this.isClosed) throw closed();
    const jobs = new JobQueue({ consumer, queue, link, pulse, clock, lock });
    const events = new JobEvents({
      jobs,
      queue,
      client: link.client,
      make: (from) => new QueueEvents(name, { connection, prefix, autorun: false, lastEventId: from }),
    });
    await events.open().catch((error: unknown) => {
      throw link.away(error);
    });
    if (this.isClosed) {
      await events.close().catch(() => undefined);
      throw closed();
    }
    this.stopSweeps ??= every(clock, lock / 2, () => void this.sweep());
    // A lock is renewed each half of its time: what keeps workers from that is noticed within a quarter of the rest.
    this.stopBeats ??= every(clock, lock / 8, () => void this.beat(pulse));
    const made = { jobs, queue, events };
    this.consumers.set(name, made);
    return made;
  }

  /** What is out waits for a Redis that can be used. */
  private async beat(pulse: RedisPulse): Promise<void> {
    const busy = [...this.consumers.values()].filter(({ jobs }) => jobs.size > 0);
    if (busy.length === 0) return;
    await pulse.beat();
    const { trouble } = pulse;
    if (trouble && !this.isClosed) for (const { jobs } of busy) jobs.abandon(trouble);
  }

  /** One at a time: an answer may take longer than the time between two. */
  private async sweep(): Promise<void> {
    if (this.sweeping) return;
    this.sweeping = true;
    try {
      await Promise.all([...this.consumers.values()].map(({ jobs }) => jobs.sweep()));
    } finally {
      this.sweeping = false;
    }
  }
}

function closed(): ExecutorUnavailable {
  return new ExecutorUnavailable('bullmq: the executor has been closed');
}

/**
 * Runs `@Streaming` methods in other processes, by BullMQ. Workers boot the same module with `MINIBATCH_ROLE=worker`.
 *
 * @throws MinibatchError `InvalidOptions`
 * @example
 * ```ts
 * MinibatchModule.forRoot({ executor: bullmq({ connection: 'redis://localhost:6379' }) });
 * ```
 */
export function bullmq(options: BullmqOptions): BullmqExecutor {
  return new BullmqExecutor(options);
}
