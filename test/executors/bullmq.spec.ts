import { Injectable } from '@nestjs/common';
import * as bullmqPackage from 'bullmq';
import { Redis } from 'ioredis';
import {
  ErrorCode,
  ExecutorUnavailable,
  memoryStore,
  RemoteHandlerError,
  ResultLost,
  StatusService,
  Streaming,
  StreamService,
  type Window,
  type WindowOutcome,
  WorkerLost,
} from 'nestjs-minibatch';
import { bullmq } from 'nestjs-minibatch/bullmq';
import { executorContract, executorContractModule } from 'nestjs-minibatch/testing';
import type { StoredMessage } from 'nestjs-minibatch/store';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';
import { taskFor, type TaskOptions } from '../../libs/minibatch/src/testing/executor-contract/tasks.js';
import { boot, closeApps } from '../support/executor-apps.js';

type Bullmq = ReturnType<typeof bullmq>;
type Options = Parameters<typeof bullmq>[0];

const LOCK = 1_000;
let redis: Awaited<ReturnType<typeof startRedis>>;
let admin: Redis;
let tests = 0;
/** Of this test alone. */
let prefix: string;
const executors: Bullmq[] = [];

beforeAll(async () => {
  redis = await startRedis();
  admin = new Redis(redis.url);
  admin.on('error', () => undefined);
});
afterAll(async () => {
  admin?.disconnect();
  await redis?.stop();
});
beforeEach(() => {
  prefix = `test${(tests += 1)}`;
});
afterEach(async () => {
  for (const executor of executors.splice(0)) await executor.close(0);
  await closeApps();
  Jobs.seen.length = 0;
  Jobs.work = () => undefined;
});

function make(options: Partial<Options> = {}): Bullmq {
  const executor = bullmq({ connection: redis.url, prefix, lock: LOCK, ...options });
  executors.push(executor);
  return executor;
}

@Injectable()
class Jobs {
  static readonly seen: unknown[] = [];
  static work: (window: Window) => unknown = () => undefined;

  @Streaming('executor-contract', { size: 1, group: 'work' })
  async run(window: Window) {
    Jobs.seen.push(...window.data);
    return Jobs.work(window);
  }
}
const task = (executor: Bullmq, options: TaskOptions = {}) => taskFor(executor, 'work' as 'echo', options);

const startWorker = (options: Partial<Options> = {}) =>
  boot({ role: 'worker', executor: bullmq({ connection: redis.url, prefix, lock: LOCK, ...options }) }, [Jobs]);

/** As the engine does with what counts as nothing. */
async function untilItRuns(run: () => Promise<WindowOutcome>): Promise<WindowOutcome> {
  for (;;) {
    try {
      return await run();
    } catch (error) {
      if (error instanceof RemoteHandlerError) throw error;
    }
    // Without a connection it fails at once, and the connection is made in another turn.
    await new Promise(setImmediate);
  }
}

executorContract({ describe, it, beforeEach, afterEach }, 'bullmq', async () => {
  const kept = new Map<string, StoredMessage>();
  const load = async (_: unknown, ids: readonly string[]) => ids.flatMap((id) => kept.get(id) ?? []);
  const memory = memoryStore();
  const store = { ...memory, useFactory: async () => Object.assign(await memory.useFactory(), { load }) };
  await boot(
    { role: 'worker', executor: bullmq({ connection: redis.url, prefix, lock: LOCK }), store },
    [],
    [executorContractModule()],
  );
  return {
    executor: make(),
    keep: (messages) => {
      for (const message of messages) kept.set(message.id, message);
    },
  };
});

describe('bullmq', () => {
  it('takes the options and an instance of ioredis, too', async () => {
    await startWorker();
    const { host = '', port = 0 } = admin.options;
    for (const connection of [{ host, port }, admin]) {
      const executor = make({ connection });
      expect(await executor.run(task(executor))).toEqual({ result: undefined, rejected: [] });
    }
  });

  it('connects by itself, and hears of aborts, whatever the options of ioredis say', async () => {
    const { host = '', port = 0 } = admin.options;
    const connection = { host, port, lazyConnect: true, enableOfflineQueue: false };
    await startWorker({ connection });
    Jobs.work = ({ signal }) =>
      new Promise((resolve) => signal.addEventListener('abort', () => resolve('aborted'), { once: true }));
    const executor = make({ connection });
    const abort = new AbortController();
    const run = executor.run(task(executor, { signal: abort.signal }));
    await vi.waitFor(() => expect(Jobs.seen).toHaveLength(1), 20_000);
    abort.abort(new Error('too late'));
    expect((await run).result).toBe('aborted');
  });

  it('does not take the workers of another database for its own', async () => {
    await startWorker({ connection: redis.url.replace(/0$/, '1') });
    const executor = make();
    await expect(executor.open([task(executor).consumer])).rejects.toThrow('no worker serves');
  });

  it('refuses a Redis that may drop keys, on both sides', async () => {
    await admin.config('SET', 'maxmemory-policy', 'allkeys-lru');
    try {
      const executor = make();
      const refusal = { code: ErrorCode.RedisMayEvict, message: expect.stringContaining("'allkeys-lru'") };
      await expect(executor.open([{ label: 'Jobs.run', stream: 's', group: 'g', workers: 1 }])).rejects.toMatchObject(
        refusal,
      );
      await expect(executor.run(task(executor))).rejects.toMatchObject(refusal);
      await expect(startWorker()).rejects.toMatchObject(refusal);
    } finally {
      await admin.config('SET', 'maxmemory-policy', 'noeviction');
    }
    await startWorker();
    const executor = make();
    await executor.run(task(executor));
  });

  it('has windows wait while nobody serves them, and finds what was done meanwhile', async () => {
    const executor = make();
    await expect(executor.open([task(executor).consumer])).rejects.toThrow(ExecutorUnavailable);
    const run = () => executor.run(task(executor, { messages: [{ data: 'once' }] }));
    await expect(run()).rejects.toThrow('no worker serves');
    Jobs.work = () => 'done';
    await startWorker();
    await vi.waitFor(() => expect(Jobs.seen).toEqual(['once']), 20_000);
    expect(await untilItRuns(run)).toEqual({ result: 'done', rejected: [] });
    expect(Jobs.seen).toEqual(['once']);
    // The next run of the same window is another one.
    await run();
    expect(Jobs.seen).toEqual(['once', 'once']);
  });

  it('lets the next emitter find what runs, and what has ended', async () => {
    await startWorker({ concurrency: 2 });
    const ends = new Map<unknown, () => void>();
    Jobs.work = ({ data }) => new Promise((resolve) => ends.set(data[0], () => resolve(data[0])));
    const [first, next] = [make(), make()];
    const runs = (executor: Bullmq) =>
      ['ended', 'running'].map((id) => task(executor, { record: { id }, messages: [{ data: id }] }));
    const lost = runs(first).map((each) => first.run(each).catch((error: unknown) => error));
    await vi.waitFor(() => expect(ends.size).toBe(2), 20_000);
    await first.close(0);
    expect(await Promise.all(lost)).toEqual([expect.any(ExecutorUnavailable), expect.any(ExecutorUnavailable)]);
    ends.get('ended')?.();
    const adopted = runs(next).map((each) => next.run(each));
    expect((await adopted[0])?.result).toBe('ended');
    ends.get('running')?.();
    expect((await adopted[1])?.result).toBe('running');
    expect(Jobs.seen.toSorted()).toEqual(['ended', 'running']);
  });

  it('aborts the method with its task, unless the next holder of the lease waits for it', async () => {
    await startWorker();
    const reasons: unknown[] = [];
    let end = (): void => undefined;
    Jobs.work = ({ signal }) =>
      new Promise<void>((resolve) => {
        end = resolve;
        signal.addEventListener('abort', () => {
          reasons.push((signal.reason as Error).message);
          resolve();
        });
      });
    const executor = make();
    for (const reason of [new Error('too late'), undefined]) {
      const abort = new AbortController();
      const given = task(executor, { record: { id: String(reason) }, signal: abort.signal });
      const begun = given.begin();
      const run = executor.run(given).catch((error: unknown) => error);
      await begun;
      // Redis says so a moment before the method runs.
      await vi.waitFor(() => expect(Jobs.seen).toHaveLength(reason ? 1 : 2), 20_000);
      abort.abort(reason);
      if (reason) expect(await run).toEqual({ result: undefined, rejected: [] });
      else expect(await run).toMatchObject({ message: expect.stringContaining('left to the next holder') });
    }
    const adopted = executor.run(task(executor, { record: { id: 'undefined' } }));
    end();
    expect(await adopted).toEqual({ result: undefined, rejected: [] });
    expect(reasons).toEqual(['too late']);
    expect(Jobs.seen).toHaveLength(2);
  });

  it('knows a lost worker by the job that another one has marked as failed', async () => {
    const first = make();
    const given = (executor: Bullmq) => task(executor, { record: { id: 'lost' } });
    const abandoned = first.run(given(first)).catch((error: unknown) => error);
    await vi.waitFor(async () => expect(await admin.keys(`${prefix}:*:wait`)).toHaveLength(1), 20_000);
    // Takes the job and never renews its lock.
    const dead = new bullmqPackage.Worker('minibatch.executor-contract.work', null, {
      connection: { url: redis.url },
      prefix,
      lockDuration: 1,
    });
    expect(await dead.getNextJob('dead')).toBeDefined();
    await first.close(0);
    expect(await abandoned).toBeInstanceOf(ExecutorUnavailable);
    await startWorker();
    await vi.waitFor(async () => expect(await admin.keys(`${prefix}:*:failed`)).toHaveLength(1), 20_000);
    const next = make();
    await expect(next.run(given(next))).rejects.toThrow(WorkerLost);
    expect(Jobs.seen).toEqual([]);
    await dead.close(true);
  });

  it.each(['job stalled more than allowable limit', 'bullmq:rateLimitExceeded'])(
    'takes "%s" for what the method threw, if it did',
    async (text) => {
      await startWorker();
      Jobs.work = () => {
        throw new RangeError(text);
      };
      const executor = make();
      await expect(executor.run(task(executor))).rejects.toMatchObject({ name: 'RangeError', message: text });
      expect(Jobs.seen).toHaveLength(1);
    },
  );

  it('does not begin with a task that is aborted already', async () => {
    await startWorker();
    const executor = make();
    await executor.run(task(executor, { record: { id: 'before' } }));
    const signal = AbortSignal.abort(new Error('too late'));
    await expect(executor.run(task(executor, { record: { id: 'aborted' }, signal }))).rejects.toThrow('too late');
    await executor.run(task(executor, { record: { id: 'after' } }));
    expect(Jobs.seen).toHaveLength(2);
  });

  it('leaves the methods of an application alone that has a queue of this name in another database', async () => {
    const connection = redis.url.replace(/0$/, '1');
    await startWorker({ connection, concurrency: 2 });
    let isAborted = false;
    let end = (): void => undefined;
    Jobs.work = ({ id, signal }) => {
      if (id !== 'same') return 'other';
      signal.addEventListener('abort', () => (isAborted = true));
      return new Promise((resolve) => (end = () => resolve('done')));
    };
    const [theirs, ours] = [make({ connection }), make()];
    const same = theirs.run(task(theirs, { record: { id: 'same' } }));
    await vi.waitFor(() => expect(Jobs.seen).toHaveLength(1), 20_000);
    const abort = new AbortController();
    const run = ours.run(task(ours, { record: { id: 'same' }, signal: abort.signal }));
    await vi.waitFor(async () => expect(await admin.keys(`${prefix}:*:wait`)).toHaveLength(1), 20_000);
    abort.abort(new Error('too late'));
    await expect(run).rejects.toThrow('too late');
    expect((await theirs.run(task(theirs, { record: { id: 'later' } }))).result).toBe('other');
    expect(isAborted).toBe(false);
    end();
    expect((await same).result).toBe('done');
  });

  it('reads events on after one that is no JSON', async () => {
    // Nothing else would find a result before the test is over.
    const lock = '10m';
    await startWorker({ lock });
    const executor = make({ lock });
    await executor.run(task(executor));
    const event = ['event', 'completed', 'jobId', 'python', 'returnvalue', 'NaN'];
    await admin.xadd(`${prefix}:minibatch.executor-contract.work:events`, '*', ...event);
    let [runs, ended] = [0, 0];
    await vi.waitFor(() => {
      const run = executor.run(task(executor, { record: { id: `after ${(runs += 1)}` } }));
      run.then(() => (ended += 1)).catch(() => undefined);
      expect(ended).toBeGreaterThan(0);
    }, 30_000);
  });

  it('finds all results, though every 50th event is lost', async () => {
    const { emit } = bullmqPackage.QueueEvents.prototype;
    let events = 0;
    const dropping = vi.spyOn(bullmqPackage.QueueEvents.prototype, 'emit').mockImplementation(function (
      this: never,
      ...args
    ) {
      return (events += 1) % 50 === 0 ? true : emit.apply(this, args as never);
    });
    try {
      await startWorker({ concurrency: 20 });
      Jobs.work = ({ data }) => data[0];
      const executor = make();
      const upTo300 = Array.from({ length: 300 }, (_, n) => n);
      const outcomes = await Promise.all(
        upTo300.map((n) => executor.run(task(executor, { record: { id: `w${n}` }, messages: [{ data: n }] }))),
      );
      expect(outcomes.map(({ result }) => result)).toEqual(upTo300);
      expect(events).toBeGreaterThan(600);
    } finally {
      dropping.mockRestore();
    }
    expect(await admin.keys(`${prefix}:*:completed`)).toEqual([]);
  });

  it('shows a method that throws as a failed job, until its emitter has seen it', async () => {
    await startWorker();
    let failed: unknown;
    Jobs.work = () => {
      throw new RangeError('no luck');
    };
    const events = new bullmqPackage.QueueEvents('minibatch.executor-contract.work', {
      connection: { url: redis.url },
      prefix,
    });
    await events.waitUntilReady();
    events.on('failed', ({ failedReason }) => (failed = failedReason));
    const executor = make();
    await expect(executor.run(task(executor))).rejects.toMatchObject({ name: 'RangeError', message: 'no luck' });
    await vi.waitFor(() => expect(failed).toBe('no luck'), 20_000);
    await events.close();
  });
});

describe('bullmq with a Redis that fails', () => {
  it('waits while it is away, and uses what was done, if the data were kept', async () => {
    await startWorker();
    let end = (): void => undefined;
    Jobs.work = ({ data }) => new Promise((resolve) => (end = () => resolve(data[0])));
    const executor = make();
    const run = () => executor.run(task(executor, { messages: [{ data: 'kept' }] }));
    const first = run();
    await vi.waitFor(() => expect(Jobs.seen).toEqual(['kept']), 20_000);
    await redis.kill9();
    await expect(first).rejects.toThrow(ExecutorUnavailable);
    await expect(run()).rejects.toThrow("Redis can't be reached");
    await redis.restart();
    end();
    expect((await untilItRuns(run)).result).toBe('kept');
  });

  it('runs the windows again whose jobs are gone', async () => {
    await startWorker({ concurrency: 2 });
    const ends: (() => void)[] = [];
    Jobs.work = () => new Promise<void>((resolve) => void ends.push(resolve));
    const executor = make();
    const run = () => executor.run(task(executor));
    const first = run();
    await vi.waitFor(() => expect(ends).toHaveLength(1), 20_000);
    await admin.flushall();
    await expect(first).rejects.toThrow(ResultLost);
    const again = run();
    await vi.waitFor(() => expect(ends).toHaveLength(2), 20_000);
    for (const end of ends) end();
    expect(await again).toEqual({ result: undefined, rejected: [] });
  });

  it('counts no attempt, blocks the consumer, and resumes', async () => {
    @Injectable()
    class Orders {
      @Streaming('orders', { size: 1, workers: 4, retry: { backoff: 50, maxBackoff: 200 } })
      take() {}
    }
    const executor = () => bullmq({ connection: redis.url, prefix, lock: LOCK });
    await boot({ role: 'worker', executor: executor() }, [Orders]);
    const app = await boot({ executor: executor() }, [Orders]);
    const local = async () => (await app.get(StatusService).snapshot()).streams[0]?.consumers[0]?.local;
    await app.get(StreamService).append('orders', 0);
    await vi.waitFor(async () => expect(await local()).toMatchObject({ committedMessages: 1 }), 20_000);
    await redis.kill9();
    await app.get(StreamService).appendMany('orders', [1, 2, 3, 4, 5, 6]);
    await vi.waitFor(async () => {
      expect(await local()).toMatchObject({
        activity: 'blocked',
        blockedExecutor: { executor: 'bullmq', code: ErrorCode.ExecutorUnavailable, attempts: expect.any(Number) },
      });
      // The longest wait has passed several times.
      expect((await local())?.blockedExecutor?.attempts).toBeGreaterThan(8);
    }, 30_000);
    await redis.restart();
    await vi.waitFor(async () => expect(await local()).toMatchObject({ committedMessages: 7 }), 30_000);
    expect(await local()).toMatchObject({ failures: 0, deadLettered: 0, lostWorkers: 0 });
  });
});
