import type { Clock } from '../../common/clock.js';
import { messageOf } from '../../errors/error-text.js';
import { ExecutorUnavailable, ResultLost, WorkerLost } from '../../errors/executor-errors.js';
import type { ExecutorConsumer, WindowOutcome, WindowTask } from '../executor.interface.js';
import { abortChannel, type AbortOrder } from './aborts.js';
import { type EndedJob, isOfLostWorker, jobDataOf, jobIdOf, outcomeOfJob } from './job-codec.js';
import type { Queue } from './packages.js';
import type { RedisLink } from './redis-link.js';
import type { RedisPulse } from './redis-pulse.js';

/** A result is kept until its emitter, or the next one, has picked it up: seconds, and how many. */
const KEEP = { age: 600, count: 10_000 };
/** What is read of a job. */
const FIELDS = [
  'timestamp',
  'finishedOn',
  'processedOn',
  'defa',
  'returnvalue',
  'failedReason',
  'progress',
  'stacktrace',
] as const;
/** At that many looks in a row a job was active and its worker held no lock. */
const UNLOCKED = 2;

/** A job that is out. */
interface Out {
  readonly id: string;
  readonly task: WindowTask;
  /** It is in Redis for sure. */
  isAdded: boolean;
  hasStarted: boolean;
  /** Looks in a row at which no worker had it, although one had begun. */
  unlocked: number;
  /** Looks in a row at which it waited for a worker. */
  waited: number;
  /** Somebody reads or removes it. */
  isEnding: boolean;
  readonly resolve: (outcome: WindowOutcome) => void;
  readonly reject: (error: unknown) => void;
}

interface Seen extends EndedJob {
  readonly exists: boolean;
  readonly hasEnded: boolean;
  readonly hasBegun: boolean;
  /** Its worker is gone: the next one is to mark it as failed, or has done so. */
  readonly isStalled: boolean;
}

export interface JobQueueParts {
  readonly consumer: ExecutorConsumer;
  readonly queue: Queue;
  readonly link: RedisLink;
  readonly pulse: RedisPulse;
  readonly clock: Clock;
  /** Milliseconds. */
  readonly lock: number;
}

/**
 * The emitter's side of one consumer's queue. A job is told to look for by events, which may be lost, and every half lock time all that
 * are out are looked up.
 *
 * ```text
 * added ─▶ waiting ─▶ active ─▶ ended: its outcome is read, it is removed, `run` settles
 *            │           │
 *            │           └─ no lock twice, or marked as stalled ─▶ removed, WorkerLost
 *            ├─ no worker serves the queue ─▶ ExecutorUnavailable; the job stays, and the next try finds it
 *            └─ gone ─▶ ResultLost
 * ```
 */
export class JobQueue {
  private readonly out = new Map<string, Out>();

  constructor(private readonly parts: JobQueueParts) {}

  get size(): number {
    return this.out.size;
  }

  async run(task: WindowTask): Promise<WindowOutcome> {
    if (task.signal.aborted) throw givenUp(task.signal.reason);
    const id = jobIdOf(task);
    const { queue, link } = this.parts;
    const outcome = new Promise<WindowOutcome>((resolve, reject) => this.begin(id, task, resolve, reject));
    const stop = this.follow(id, task);
    try {
      const options = { jobId: id, attempts: 1, removeOnComplete: KEEP, removeOnFail: KEEP };
      const added = queue.add('window', jobDataOf(task), options).then(
        () => this.added(id, task),
        (error: unknown) => this.end(id, task, link.away(error)),
      );
      const [settled] = await Promise.all([outcome, added]);
      return settled;
    } finally {
      this.forget(id, task);
      stop();
    }
  }

  /** Something has happened to the job: it is looked up. */
  wake(id: string): void {
    const out = this.out.get(id);
    if (!out || out.isEnding) return;
    void this.look(out, false).catch(() => undefined);
  }

  /** A worker has begun with it. */
  begun(id: string): void {
    const out = this.out.get(id);
    if (!out || out.hasStarted) return;
    out.hasStarted = true;
    out.task.started();
  }

  /** Looks all jobs up that are out. */
  async sweep(): Promise<void> {
    const all = [...this.out.values()].filter(({ isAdded, isEnding }) => isAdded && !isEnding);
    if (all.length === 0) return;
    try {
      await Promise.all(all.map((out) => this.look(out, true)));
    } catch (error) {
      for (const { id, task } of all) this.end(id, task, this.parts.link.away(error));
      return;
    }
    const waiting = all.filter(({ id, waited }) => waited > 0 && this.out.has(id));
    if (waiting.length > 0 && !(await this.hasWorkers())) {
      for (const { id, task } of waiting) this.end(id, task, this.noWorkers());
    }
  }

  /** True if that can't be found out: not every Redis tells who its clients are. */
  async hasWorkers(): Promise<boolean> {
    const { queue, link } = this.parts;
    const own = Number(link.client.options.db ?? 0);
    try {
      return (await queue.getWorkers()).some(({ db }) => db === undefined || Number(db) === own);
    } catch {
      return true;
    }
  }

  noWorkers(): ExecutorUnavailable {
    const { label, stream, group } = this.parts.consumer;
    return new ExecutorUnavailable(
      `bullmq: no worker serves ${label} ('${stream}', group '${group}'): start the application with MINIBATCH_ROLE=worker`,
      { details: { consumer: label, stream, group } },
    );
  }

  /** All that is out is rejected; the jobs stay, for the next emitter. */
  abandon(error: Error): void {
    for (const { id, task } of this.out.values()) this.end(id, task, error);
  }

  // ---- one job

  private begin(id: string, task: WindowTask, resolve: Out['resolve'], reject: Out['reject']): void {
    // An earlier run of the same window, of a term that is over.
    this.out.get(id)?.reject(new ResultLost('bullmq: another run waits for the same job'));
    const flags = { isAdded: false, hasStarted: false, unlocked: 0, waited: 0, isEnding: false };
    this.out.set(id, { id, task, ...flags, resolve, reject });
  }

  private find(id: string, task: WindowTask): Out | undefined {
    const out = this.out.get(id);
    return out?.task === task ? out : undefined;
  }

  private added(id: string, task: WindowTask): void {
    const out = this.find(id, task);
    if (out) out.isAdded = true;
  }

  private end(id: string, task: WindowTask, error: unknown): void {
    this.find(id, task)?.reject(error);
    this.forget(id, task);
  }

  private forget(id: string, task: WindowTask): void {
    if (this.find(id, task)) this.out.delete(id);
  }

  private keyOf(id: string): string {
    return this.parts.queue.toKey(id);
  }

  /** @throws if Redis does not answer */
  private async look(out: Out, isSweep: boolean): Promise<void> {
    const { client } = this.parts.link;
    const key = this.keyOf(out.id);
    const asked = client.hmget(key, ...FIELDS);
    const [fields, locks] = await Promise.all([asked, isSweep ? client.exists(`${key}:lock`) : 1]);
    const seen = seenIn(fields);
    if (out.isEnding || this.out.get(out.id) !== out) return;
    if (seen.hasBegun || seen.hasEnded) this.begun(out.id);
    if (seen.isStalled) await this.lost(out);
    else if (seen.hasEnded) await this.take(out, seen);
    else if (isSweep) await this.judge(out, seen, locks > 0);
  }

  /** It has not ended. */
  private async judge(out: Out, { exists, hasBegun }: Seen, isLocked: boolean): Promise<void> {
    if (!exists) {
      const gone = `bullmq: job ${out.id} of window ${out.task.window.id} is not in Redis any more`;
      this.end(out.id, out.task, new ResultLost(gone));
      return;
    }
    out.waited = hasBegun ? 0 : out.waited + 1;
    out.unlocked = hasBegun && !isLocked ? out.unlocked + 1 : 0;
    if (out.unlocked >= UNLOCKED) await this.lost(out);
  }

  /** It is used only once it is removed: the same run may come again, and is not to find an old outcome. */
  private async take(out: Out, seen: Seen): Promise<void> {
    let outcome: WindowOutcome | undefined;
    let failure: unknown;
    try {
      outcome = outcomeOfJob(seen);
    } catch (error) {
      failure = error;
    }
    if (!(await this.removed(out))) return;
    if (outcome) out.resolve(outcome);
    else out.reject(failure);
  }

  /** Its worker has stopped to renew its lock. */
  private async lost(out: Out): Promise<void> {
    const { pulse, lock } = this.parts;
    const what = `bullmq: the worker of job ${out.id} has not renewed its lock`;
    // Then no worker could renew it, and that says nothing of the window.
    const isOurFault = pulse.wasAway(3 * lock);
    const error = isOurFault ? new ResultLost(`${what}, for Redis was away or full`) : new WorkerLost(what);
    if (await this.removed(out)) out.reject(error);
  }

  /** False: it could not be removed, and its run has been told. */
  private async removed(out: Out): Promise<boolean> {
    out.isEnding = true;
    try {
      await this.parts.queue.remove(out.id, { removeChildren: false });
      return true;
    } catch (error) {
      this.end(out.id, out.task, this.parts.link.away(error));
      return false;
    }
  }

  // ---- aborts

  private follow(id: string, task: WindowTask): () => void {
    let cancel = (): void => undefined;
    const { signal } = task;
    const abort = () => {
      cancel = this.abort(id, task);
    };
    signal.addEventListener('abort', abort, { once: true });
    return () => {
      cancel();
      signal.removeEventListener('abort', abort);
    };
  }

  /**
   * If this emitter stops, or has lost its lease, the job is left to the next one, which waits for the same. Otherwise a job that waits is
   * removed, and a method that runs has one lock time to end.
   */
  private abort(id: string, task: WindowTask): () => void {
    const { queue, link, clock, lock } = this.parts;
    const { reason } = task.signal as { reason: unknown };
    const given = givenUp(reason);
    if (reason instanceof DOMException) {
      this.end(id, task, given);
      return () => undefined;
    }
    const order: AbortOrder = { job: id, reason: messageOf(reason), at: clock.now() };
    const channel = abortChannel(queue.toKey('aborts'), link.client);
    void link.client.publish(channel, JSON.stringify(order)).catch(() => undefined);
    if (!this.out.get(id)?.hasStarted) {
      void queue.remove(id, { removeChildren: false }).then(
        // Zero: a worker has begun with it.
        (count) => count === 0 || this.end(id, task, given),
        () => this.end(id, task, given),
      );
    }
    return clock.schedule(lock, () => this.end(id, task, given));
  }
}

/** @param reason of the task's signal */
function givenUp(reason: unknown): ExecutorUnavailable {
  if (reason instanceof DOMException)
    return new ExecutorUnavailable('bullmq: the window is left to the next holder of the lease');
  return new ExecutorUnavailable(`bullmq: the window was given up: ${messageOf(reason)}`);
}

function seenIn(fields: readonly (string | null)[]): Seen {
  const [timestamp, finishedOn, processedOn, defa, returnvalue = null, ...ofFailure] = fields;
  const [failedReason = null, progress = null, stacktrace = null] = ofFailure;
  const ended = { returnvalue, failedReason, progress, stacktrace };
  return {
    ...ended,
    exists: timestamp !== null,
    hasEnded: finishedOn !== null,
    hasBegun: processedOn !== null,
    isStalled: defa !== null || isOfLostWorker(ended),
  };
}
