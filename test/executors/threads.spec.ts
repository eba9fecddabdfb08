import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TaskOptions } from '../../libs/minibatch/src/testing/executor-contract/tasks.js';
import { repository, run } from '../support/workspace.js';

/** Threads load the package as built; so does their executor, or there would be two of each class. */
const built = <M>(file: string) => import(pathToFileURL(repository('libs/minibatch/dist', file)).href) as Promise<M>;
const { threads, runMinibatchWorker } = await built<typeof import('nestjs-minibatch/threads')>('threads.js');
const { executorContract } = await built<typeof import('nestjs-minibatch/testing')>('testing/index.js');
const { taskFor } = await built<typeof import('../../libs/minibatch/src/testing/executor-contract/tasks.js')>(
  'testing/executor-contract/tasks.js',
);
const { ErrorCode, ExecutorUnavailable, RemoteHandlerError, WorkerLost } =
  await built<typeof import('nestjs-minibatch')>('index.js');

type Threads = ReturnType<typeof threads>;
type Options = Parameters<typeof threads>[0];

const fixture = (file: string) => pathToFileURL(repository('test/fixtures/executors', file));
const opened: Threads[] = [];
afterEach(async () => {
  for (const executor of opened.splice(0)) await executor.close(0);
});

function make(worker: string, options: Partial<Options> = {}): Threads {
  const executor = threads({ worker: fixture(worker), threads: 1, ...options });
  opened.push(executor);
  return executor;
}

/** A task for a method of a worker's own, in its group of the contract's stream. */
const task = (executor: Threads, method: string, options: TaskOptions = {}) =>
  taskFor(executor, method as 'echo', options);

executorContract({ describe, it, beforeEach, afterEach }, 'threads', () => ({
  executor: threads({ worker: fixture('contract-worker.mjs'), threads: 1 }),
}));

describe('a method in a thread', () => {
  it('runs outside of the main thread, in the same one again', async () => {
    const executor = make('hostile-worker.mjs');
    const { result } = await executor.run(task(executor, 'where'));
    expect(result).toBeGreaterThan(0);
    expect(await executor.run(task(executor, 'where'))).toEqual({ result, rejected: [] });
  });

  it('is lost if its thread exits; the next one has a new thread', async () => {
    const executor = make('hostile-worker.mjs');
    const { result: before } = await executor.run(task(executor, 'where'));
    const run = executor.run(task(executor, 'exit', { messages: [{ data: 'exit' }] }));
    await expect(run).rejects.toThrow(WorkerLost);
    await expect(run).rejects.toThrow('worker exited with code: 7');
    const { result: after } = await executor.run(task(executor, 'exit', { messages: [{ data: 'stay' }] }));
    expect(after).not.toBe(before);
  });

  it.each([
    ['throws where nobody catches', 'throwLater', 'thrown by nobody'],
    ['rejects what nobody awaits', 'rejectLater', 'awaited by nobody'],
    ['takes all memory', 'takeAllMemory', /memory/],
  ])('is lost if it %s, and nothing else is', async (_, method, message) => {
    const executor = make('hostile-worker.mjs', { maxMemory: 64 });
    const run = executor.run(task(executor, method));
    await expect(run).rejects.toThrow(WorkerLost);
    await expect(run).rejects.toThrow(message);
    expect(await executor.run(task(executor, 'where'))).toMatchObject({ result: expect.any(Number) });
  });

  it('is terminated if it blocks its thread after its signal has aborted', async () => {
    const executor = make('hostile-worker.mjs', { terminateAfter: 10 });
    const abort = new AbortController();
    const blocked = task(executor, 'blockForever', { signal: abort.signal });
    const started = blocked.begin();
    const run = executor.run(blocked);
    await started;
    abort.abort(new Error('retry.timeout'));
    await expect(run).rejects.toThrow(WorkerLost);
    await expect(run).rejects.toThrow('it was terminated');
    expect(await executor.run(task(executor, 'where'))).toMatchObject({ result: expect.any(Number) });
  });

  it('waits for a thread without being said to have started', async () => {
    const executor = make('contract-worker.mjs');
    const abort = new AbortController();
    const first = task(executor, 'hang', { signal: abort.signal });
    const second = task(executor, 'echo');
    const order: string[] = [];
    const started = first.begin().then(() => order.push('first'));
    const waits = second.begin().then(() => order.push('second'));
    const runs = [executor.run(first).then(() => order.push('first ended')), executor.run(second)];
    await started;
    abort.abort(new Error('enough'));
    await Promise.all([...runs, waits]);
    expect(order.indexOf('first')).toBe(0);
    expect(order).toContain('second');
  });

  it('is not run at all if its signal aborts while it waits for a thread', async () => {
    const executor = make('contract-worker.mjs');
    const [running, waiting] = [new AbortController(), new AbortController()];
    const first = task(executor, 'hang', { signal: running.signal });
    const started = first.begin();
    const run = executor.run(first);
    await started;
    const second = executor.run(task(executor, 'echo', { signal: waiting.signal }));
    waiting.abort(new Error('lease lost'));
    await expect(second).rejects.toThrow(ExecutorUnavailable);
    running.abort(new Error('enough'));
    await run;
  });

  it('throws with a stack that leads to its file', async () => {
    const executor = make('hostile-worker.mjs');
    const error = await executor.run(task(executor, 'fail')).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RemoteHandlerError);
    expect(error).toMatchObject({
      name: 'SyntaxError',
      message: 'in the thread',
      stack: expect.stringMatching(/SyntaxError: in the thread\n.*Jobs\.fail .*hostile-worker\.mjs:\d+:\d+/),
    });
  });

  it('may be written in CommonJS', async () => {
    const executor = make('common-worker.cjs');
    expect((await executor.run(task(executor, 'where'))).result).toEqual({ common: 'function', data: [1] });
  });
});

describe('threads that can not work', () => {
  const consumer = { label: 'Jobs.where', stream: 'executor-contract', group: 'where', workers: 1 };

  it.each([
    [
      'a file that does not exist',
      { worker: fixture('nowhere.mjs') },
      /worker is .*nowhere\.mjs'; allowed: a file that exists/,
    ],
    [
      'a module without the consumer',
      { worker: fixture('contract-worker.mjs') },
      /it lacks Jobs\.where \('executor-contract', group 'where'\)/,
    ],
  ])('keep the application from starting: %s', async (_, options, message) => {
    const executor = make('', options);
    await expect(executor.open([consumer])).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
      message: expect.stringMatching(message),
    });
  });

  it.each([
    ['empty-worker.mjs', 'does not call runMinibatchWorker(WorkerModule)'],
    ['broken-worker.mjs', 'the database is away'],
  ])('make windows wait: %s', async (file, message) => {
    const executor = make(file);
    for (const failing of [() => executor.open([consumer]), () => executor.run(task(executor, 'where'))]) {
      await expect(failing()).rejects.toThrow(ExecutorUnavailable);
    }
    await expect(executor.open([consumer])).rejects.toThrow(message);
  });

  it.each(['stuck-worker.mjs', 'looping-worker.mjs'])(
    'do not hold up the application if they never boot: %s',
    async (file) => {
      const program = repository('test/fixtures/executors/unbooted-process.mjs');
      const { exitCode, stdout } = await run(process.execPath, [program, file]);
      // Its threads have ended, or it would not have.
      expect(exitCode).toBe(0);
      expect(stdout).toContain('MINIBATCH_EXECUTOR_UNAVAILABLE');
      expect(stdout).toContain(`${file} can't start: it did not finish loading within 50 ms (startTimeout)`);
    },
  );

  it('are started again, and run windows as soon as one boots', async () => {
    process.env['STUCK_WORKER'] = 'yes';
    const executor = make('sometimes-stuck-worker.mjs', { startTimeout: 3_000 });
    try {
      await expect(executor.open([consumer])).rejects.toThrow(ExecutorUnavailable);
    } finally {
      delete process.env['STUCK_WORKER'];
    }
    let outcome: unknown;
    while (outcome === undefined) outcome = await executor.run(task(executor, 'where')).catch(() => undefined);
    expect(outcome).toMatchObject({ result: expect.any(Number) });
  });

  it.each<[Record<string, unknown>, RegExp]>([
    [{ worker: './worker.js' }, /worker is '\.\/worker\.js'; allowed: new URL/],
    [{ worker: new URL('https://example.org/worker.js') }, /worker is 'https:\/\/example\.org\/worker\.js'; allowed/],
    [{}, /worker is undefined/],
    [{ worker: fixture('empty-worker.mjs'), threads: 0 }, /threads is 0/],
    [{ worker: fixture('empty-worker.mjs'), threads: 1.5 }, /threads is 1\.5/],
    [{ worker: fixture('empty-worker.mjs'), maxResultBytes: '1MB' }, /maxResultBytes is '1MB'/],
    [{ worker: fixture('empty-worker.mjs'), terminateAfter: -1 }, /terminateAfter is -1/],
    [{ worker: fixture('empty-worker.mjs'), startTimeout: 0 }, /startTimeout is 0/],
    [{ worker: fixture('empty-worker.mjs'), size: 3 }, /size/],
  ])('are refused: %j', (options, message) => {
    expect(() => threads(options as unknown as Options)).toThrow(message);
  });

  it('have a worker of their own, which is no file for the main thread', () => {
    expect(() => runMinibatchWorker(class {})).toThrow(/called in the main thread/);
  });
});

describe('an application with threads', () => {
  it('handles everything there, and gives up only the message that ends a thread', async () => {
    const { exitCode, stdout, stderr } = await run(process.execPath, [
      repository('test/fixtures/executors/orders-process.mjs'),
    ]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: expect.any(String) });
    const seen = JSON.parse(stdout) as { results: { isMainThread: boolean; total: string; last: string }[] };
    expect(seen).toMatchObject({
      letters: [{ id: 'deadly', error: expect.stringContaining('worker exited with code: 9'), attempts: 1 }],
      failures: 0,
      lostWorkers: 10,
      deadLettered: 1,
    });
    expect(seen.results.map(({ total }) => total).toSorted()).toEqual(['1n', '2n', '4n']);
    expect(new Set(seen.results.map(({ isMainThread, last }) => `${isMainThread} ${last}`))).toEqual(
      new Set(['false 1970-01-01T00:00:01.000Z']),
    );
  });
});
