import { type Clock, delay, within } from '../../common/clock.js';
import type { ServedConsumer, ExecutorWorker } from '../executor.interface.js';
import { type Answer, failureOf, thrownAnswer } from '../outcome-codec.js';
import { ExecutorUnavailable, ProtocolMismatch } from '../../errors/executor-errors.js';
import { isA } from '../../errors/error-text.js';
import type { ReceivedTask } from '../task-codec.js';
import { runReceived } from '../task-runner.js';
import { abortChannel, RunningJobs } from './aborts.js';
import type { ResolvedBullmq } from './bullmq.options.js';
import { readJob, returnValueOf } from './job-codec.js';
import type { Bullmq, Job, RedisClient, Worker } from './packages.js';
import { queueNameOf } from './queue-name.js';
import { CLOSE_WAIT } from './redis-link.js';

export interface JobWorkerParts {
  readonly bullmq: Bullmq;
  /** Shared by all of the process; each worker adds one of its own, on which it waits for jobs. */
  readonly client: RedisClient;
  /** For orders to abort. */
  readonly subscriber: RedisClient;
  readonly options: ResolvedBullmq;
  readonly clock: Clock;
  readonly load: ExecutorWorker['load'];
}

/** What runs here, with the token by which it is given back. */
interface Running {
  readonly job: Job;
  readonly token: string;
}

/** The worker's side: runs the windows of all consumers that this process serves. */
export class JobWorker {
  private readonly workers: Worker[] = [];
  private readonly jobs: RunningJobs;
  private readonly running = new Set<Running>();
  private readonly closing = new AbortController();
  private onIdle = (): void => undefined;

  constructor(private readonly parts: JobWorkerParts) {
    this.jobs = new RunningJobs(parts.subscriber, parts.clock, parts.options.lock);
  }

  /** Begins with windows of this consumer, as soon as Redis can be reached. Resolves when it has begun. */
  async serve(consumer: ServedConsumer): Promise<void> {
    const { bullmq, client, subscriber, options } = this.parts;
    const { prefix, concurrency, lock } = options;
    const name = queueNameOf(consumer);
    const worker = new bullmq.Worker(name, (job, token) => this.process(consumer, job, token), {
      connection: client,
      prefix,
      concurrency,
      lockDuration: lock,
      stalledInterval: lock,
      maxStalledCount: 0,
      // What it can't say while Redis is away, it says when it is back.
      runRetryDelay: 1_000,
    });
    // The emitters say that Redis is away.
    worker.on('error', () => undefined);
    worker.on('lockRenewalFailed', (ids) => {
      for (const id of ids) this.jobs.abort(id, 'the lock of the job is lost, and so is its result');
    });
    this.workers.push(worker);
    void subscriber.subscribe(abortChannel(`${prefix}:${name}:aborts`, subscriber)).catch(() => undefined);
    await worker.waitUntilReady();
  }

  /** Methods may end within that time; what runs then is given back, for another worker. */
  async close(timeout: number): Promise<void> {
    const { workers, running, parts } = this;
    this.closing.abort(new Error('the worker shuts down'));
    await this.told(workers.map((worker) => worker.pause(true)));
    if (running.size > 0) {
      const idle = new AbortController();
      this.onIdle = () => idle.abort();
      await delay(parts.clock, timeout, idle.signal);
    }
    await this.told([...running].map(({ job, token }) => job.moveToWait(token)));
    await this.told(workers.map((worker) => worker.close(true)));
  }

  /** A worker that could not be told is gone with its process. */
  private told(work: readonly Promise<unknown>[]): Promise<void> {
    return within(this.parts.clock, CLOSE_WAIT, Promise.allSettled(work));
  }

  private async process(consumer: ServedConsumer, job: Job, token: string): Promise<unknown> {
    if (this.closing.signal.aborted) {
      await job.moveToWait(token);
      throw new this.parts.bullmq.WaitingError();
    }
    const running = { job, token };
    this.running.add(running);
    try {
      const answer = await this.jobs.run(job, (signal) => this.answer(consumer, job, signal));
      if (answer.kind === 'handled') return returnValueOf(answer);
      // With it the emitter knows class and code of what was thrown. Without it, it knows the text.
      await job.updateProgress(answer).catch(() => undefined);
      throw failed(answer);
    } finally {
      this.running.delete(running);
      if (this.running.size === 0) this.onIdle();
    }
  }

  private async answer(consumer: ServedConsumer, { data }: Job, signal: AbortSignal): Promise<Answer> {
    const { stream, group, handler } = consumer;
    const { load, options } = this.parts;
    let task: ReceivedTask;
    try {
      task = await readJob(data, consumer, (partition, ids) => load({ stream, group, partition }, ids));
    } catch (error) {
      const isOwn = isA(error, ProtocolMismatch) || isA(error, ExecutorUnavailable);
      // The store, or a message that can't be decoded: the emitter finds out which.
      return failureOf(
        isOwn ? error : new ExecutorUnavailable(`a worker can't read a window: ${String(error)}`, { cause: error }),
      );
    }
    const { signal: closing } = this.closing;
    try {
      return await runReceived(task, handler, {
        signal,
        closing: AbortSignal.any([signal, closing]),
        maxResultBytes: options.maxResultBytes,
      });
    } catch (error) {
      return thrownAnswer(error);
    }
  }
}

/** An error with this text makes BullMQ begin with the job again, at once and for ever. */
const RATE_LIMIT = 'bullmq:rateLimitExceeded';

/** What BullMQ shows of the job. */
function failed(answer: Exclude<Answer, { kind: 'handled' }>): Error {
  const { message } = answer;
  const error = new Error(message === RATE_LIMIT ? `Error: ${message}` : message);
  if ('stack' in answer && answer.stack !== undefined) error.stack = answer.stack;
  return error;
}
