import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { delay, SystemClock } from '../../common/clock.js';
import { invalidOption } from '../../common/checks.js';
import { messageOf } from '../../errors/error-text.js';
import { ExecutorUnavailable, ProtocolMismatch } from '../../errors/executor-errors.js';
import type { Executor, ExecutorConsumer, WindowOutcome, WindowTask } from '../executor.interface.js';
import { readOutcome } from '../outcome-codec.js';
import { bootsTooLong, type ThreadReply } from './messages.js';
import { makePool, type Pool } from './pool.js';
import { ThreadRun } from './thread-run.js';
import { resolveThreads, type ResolvedThreads, type ThreadsOptions } from './threads.options.js';

const THREAD = fileURLToPath(new URL('./thread-entry.cjs', import.meta.url));

/** A thread that ends itself says so first; milliseconds. */
const GRACE = 1_000;

/** Runs methods in worker threads of this process, one window in each at a time. */
export class ThreadsExecutor implements Executor {
  readonly name = 'threads';
  readonly reportsStart = true;
  private readonly options: ResolvedThreads;
  private readonly runs = new Set<ThreadRun>();
  private pool: Promise<Pool> | undefined;
  /** The question that is out, as long as no thread has booted. */
  private asking: Promise<ThreadReply> | undefined;
  private isClosed = false;
  /** One of the threads has booted. */
  private hasAnswered = false;
  private readonly clock = new SystemClock();

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: ThreadsOptions) {
    this.options = resolveThreads(options);
  }

  /**
   * Starts the threads, and sees whether they have what these consumers need.
   *
   * @throws MinibatchError `MissingPackage`, `InvalidOptions`; ExecutorUnavailable if the worker does not boot
   */
  async open(consumers: readonly ExecutorConsumer[]): Promise<void> {
    const { worker } = this.options;
    if (!existsSync(fileURLToPath(worker))) throw invalidOption('threads', 'worker', worker, 'a file that exists');
    const reply = await this.asked();
    if (reply.kind === 'failed') throw new ExecutorUnavailable(`${worker} can't start: ${reply.message}`);
    if (reply.kind !== 'ready') return;
    const known = new Set(reply.consumers.map(([stream, group]) => `${stream}\0${group}`));
    const missing = consumers.filter(({ stream, group }) => !known.has(`${stream}\0${group}`));
    if (missing.length === 0) return;
    const names = missing.map(({ label, stream, group }) => `${label} ('${stream}', group '${group}')`).join(', ');
    throw invalidOption(
      'threads',
      'worker',
      worker,
      `a file whose module has the providers of all consumers; it lacks ${names}`,
    );
  }

  async run(task: WindowTask): Promise<WindowOutcome> {
    // A window that waited for a thread which never boots would wait forever.
    const first = this.hasAnswered ? undefined : await Promise.race([this.asked(), aborted(task.signal)]);
    if (first?.kind === 'failed') throw new ExecutorUnavailable(`${this.options.worker} can't start: ${first.message}`);
    const reply = await this.through(async (run, pool) => {
      const stop = run.follow(task);
      try {
        return await run.run(pool, task.encode());
      } finally {
        stop();
      }
    }, task);
    if (reply.kind !== 'answer') throw new ProtocolMismatch(`a worker thread answered with '${reply.kind}'`);
    return readOutcome(reply.bytes);
  }

  async close(timeout: number): Promise<void> {
    this.isClosed = true;
    const { pool, runs } = this;
    if (!pool) return;
    const cancel = this.clock.schedule(timeout, () => {
      for (const run of runs) run.terminate();
    });
    while (runs.size > 0) await Promise.race([...runs].map((run) => run.ended));
    cancel();
    await (await pool.catch(() => undefined))?.destroy();
  }

  /** What a thread says it can run; until one has said so, everybody waits for the same answer. */
  private async asked(): Promise<ThreadReply> {
    if (this.hasAnswered) return this.ask();
    this.asking ??= this.ask();
    try {
      return await this.asking;
    } finally {
      this.asking = undefined;
    }
  }

  /** A thread ends itself if it does not boot in time; one that blocks its event loop can't, so all of them are ended from here. */
  private async ask(): Promise<ThreadReply> {
    const { startTimeout } = this.options;
    const over = new AbortController();
    const tooLate: ThreadReply = { kind: 'failed', message: bootsTooLong(startTimeout) };
    const late = delay(this.clock, startTimeout + GRACE, over.signal).then(() => tooLate);
    const reply = this.through((run, pool) => run.run(pool, undefined));
    // It may fail after nobody waits for it any more.
    reply.catch(() => undefined);
    try {
      const first = await (this.hasAnswered ? reply : Promise.race([reply, late]));
      if (first === tooLate) await this.endThreads();
      // Later questions may have to wait for threads that run windows.
      this.hasAnswered ||= first.kind === 'ready';
      return first;
    } finally {
      over.abort();
    }
  }

  /** The next task gets new ones. */
  private async endThreads(): Promise<void> {
    const { pool } = this;
    this.pool = undefined;
    await (await pool?.catch(() => undefined))?.destroy();
  }

  private async through<R>(work: (run: ThreadRun, pool: Pool) => Promise<R>, task?: WindowTask): Promise<R> {
    if (this.isClosed) throw new ExecutorUnavailable('the worker threads have been closed');
    const run = new ThreadRun(this.clock, this.options.terminateAfter, () => task?.started());
    this.runs.add(run);
    try {
      return await work(run, await this.opened());
    } finally {
      this.runs.delete(run);
      run.end();
    }
  }

  private opened(): Promise<Pool> {
    this.pool ??= this.start();
    return this.pool;
  }

  private async start(): Promise<Pool> {
    const { worker, threads, maxResultBytes, startTimeout, maxMemory } = this.options;
    const workerData = { worker, maxResultBytes, startTimeout };
    const pool = await makePool({ filename: THREAD, minThreads: threads, maxThreads: threads, workerData, maxMemory });
    // Of a thread without a task: another one takes its place.
    pool.on('error', (error) => process.emitWarning(`a worker thread of nestjs-minibatch ended: ${messageOf(error)}`));
    return pool;
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = () => reject(new ExecutorUnavailable(`no worker thread has booted: ${messageOf(signal.reason)}`));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}

/**
 * Runs `@Streaming` methods in worker threads, so that what computes for long does not hold up the event loop.
 *
 * @throws MinibatchError `InvalidOptions`
 * @example
 * ```ts
 * MinibatchModule.forRoot({ executor: threads({ worker: new URL('./worker.js', import.meta.url), threads: 2 }) });
 * ```
 */
export function threads(options: ThreadsOptions): ThreadsExecutor {
  return new ThreadsExecutor(options);
}
