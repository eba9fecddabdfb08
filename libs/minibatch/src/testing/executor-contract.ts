import { deepStrictEqual, match, ok, rejects, strictEqual } from 'node:assert/strict';
import { Decimal128, ObjectId } from 'bson';
import { ExecutorUnavailable, RemoteHandlerError, ResultUnsendable } from '../errors/executor-errors.js';
import type { Executor, ExecutorConsumer } from '../executors/executor.interface.js';
import type { StoredMessage } from '../storage/message.interface.js';
import { CONSUMERS, handled, taskFor } from './executor-contract/tasks.js';
import type { TestFunctions } from './store-contract/context.js';

/** An executor whose workers boot `executorContractModule()`. */
export interface ExecutorUnderTest {
  /** Not opened yet; the contract opens and closes it. */
  readonly executor: Executor;
  /** True: handlers run in this process, so that any result goes through, and every handler is there. @default false */
  readonly inProcess?: boolean;
  /** Stores messages where the workers find them, for an executor that sends large windows by reference. */
  keep?(messages: readonly StoredMessage[]): void | Promise<void>;
  /** Ends what the executor does not end itself; called after `close`. */
  dispose?(): void | Promise<void>;
}

/** Longest wait for what is to happen soon; milliseconds. */
const SOON = 5_000;

interface ContractContext {
  readonly executor: Executor;
  keep(messages: readonly StoredMessage[]): Promise<void>;
  readonly inProcess: boolean;
}

/**
 * The contract of an `Executor` as tests; every executor passes it. It asserts with `node:assert` and takes the test functions of whatever
 * runner there is: vitest, jest, `node:test`.
 *
 * @param makeExecutor called before each test
 * @example
 * ```ts
 * import { afterEach, beforeEach, describe, it } from 'vitest';
 * import { executorContract } from 'nestjs-minibatch/testing';
 *
 * executorContract({ describe, it, beforeEach, afterEach }, 'MyExecutor', () => ({ executor: new MyExecutor() }));
 * ```
 */
export function executorContract(
  test: TestFunctions,
  name: string,
  makeExecutor: (consumers: readonly ExecutorConsumer[]) => ExecutorUnderTest | Promise<ExecutorUnderTest>,
): void {
  test.describe(`${name} as Executor`, () => {
    let made: ExecutorUnderTest | undefined;

    test.beforeEach(async () => {
      made = await makeExecutor(CONSUMERS);
      await made.executor.open?.(CONSUMERS);
    });

    test.afterEach(async () => {
      await made?.executor.close?.(SOON);
      await made?.dispose?.();
      made = undefined;
    });

    const context: ContractContext = {
      async keep(messages) {
        await made?.keep?.(messages);
      },
      get executor() {
        if (made === undefined) throw new Error('the contract needs beforeEach to run');
        return made.executor;
      },
      get inProcess() {
        return made?.inProcess ?? false;
      },
    };
    for (const section of [windowContract, resultContract, failureContract, rejectionContract, lifeContract]) {
      section(test, context);
    }
  });
}

function windowContract(test: TestFunctions, context: ContractContext): void {
  test.it('shows the handler the window as it is', async () => {
    const { executor } = context;
    const [start, end] = [new Date(1_000), new Date(2_000)];
    const task = taskFor(executor, 'look', {
      partition: 5,
      record: { id: 'w', attempt: 3, late: true, start, end, part: 2 },
      messages: [{ data: { n: 1 }, key: 'k', headers: { h: 'v' } }, { data: 'two' }],
    });
    const { result } = await handled(executor, task);
    const { split: _, ...seen } = result as Record<string, unknown>;
    const { id, stream, group, attempt, late, part, data, messages } = task.window;
    deepStrictEqual(seen, {
      id,
      stream,
      group,
      partition: 5,
      attempt,
      late,
      start,
      end,
      part,
      data: [...data],
      messages: [...messages],
    });
  });

  test.it('hands over values as they were appended', async () => {
    const { executor } = context;
    const data = valuesOf();
    const { result } = await handled(executor, taskFor(executor, 'echo', { messages: [{ data }] }));
    deepStrictEqual(result, data);
  });

  test.it('hands over large windows', async () => {
    const { executor } = context;
    const messages = Array.from({ length: 2_000 }, (_, n) => ({ data: { n, text: 'x'.repeat(500) } }));
    const task = taskFor(executor, 'rejectOdd', { messages });
    await context.keep(task.window.stored);
    const { result } = await handled(executor, task);
    strictEqual(result, 2_000);
  });

  test.it('runs several windows', async () => {
    const { executor } = context;
    const runs = Array.from({ length: 20 }, (_, n) =>
      handled(executor, taskFor(executor, 'echo', { record: { id: `window ${n}` }, messages: [{ data: n }] })),
    );
    deepStrictEqual(
      (await Promise.all(runs)).map(({ result }) => result),
      Array.from({ length: 20 }, (_, n) => n),
    );
  });
}

/** `undefined` in an object is as good as no property. */
function valuesOf(): Record<string, unknown> {
  return {
    text: 'ä€😀',
    none: null,
    yes: true,
    int: 7,
    zero: -0,
    half: 0.5,
    big: 2n ** 62n,
    date: new Date(1_234_567),
    bytes: Buffer.from([0, 255]),
    id: new ObjectId('65f0c0ffee65f0c0ffee0001'),
    decimal: Decimal128.fromString('1.10'),
    pattern: /a+/i,
    list: [1, [2n, new Date(0)], { deep: 'x' }],
  };
}

function resultContract(test: TestFunctions, context: ContractContext): void {
  test.it('has no result where the handler returns none', async () => {
    const { executor } = context;
    const { result } = await handled(executor, taskFor(executor, 'returnNothing'));
    strictEqual(result, undefined);
  });

  for (const group of ['returnFunction', 'returnMuch'] as const) {
    test.it(`says of a result that it can't be sent: ${group}`, async () => {
      const { executor, inProcess } = context;
      const run = executor.run(taskFor(executor, group));
      if (inProcess) ok((await run).result);
      else await rejects(run, ResultUnsendable);
    });

    test.it(`leaves such a result out if nobody wants it: ${group}`, async () => {
      const { executor } = context;
      deepStrictEqual((await executor.run(taskFor(executor, group, { wantsResult: false }))).rejected, []);
    });
  }
}

function failureContract(test: TestFunctions, context: ContractContext): void {
  test.it('rejects with what the handler threw, its text, its code and its stack', async () => {
    const { executor } = context;
    await rejects(executor.run(taskFor(executor, 'throwError', { messages: [{ data: 'luck' }] })), (error: unknown) => {
      ok(error instanceof RemoteHandlerError, `a ${String(error)}, not a RemoteHandlerError`);
      deepStrictEqual([error.name, error.message, error.code], ['RangeError', 'no luck', 'E_RANGE']);
      match(error.stack ?? '', /RangeError: no luck\n[^]*throwError/);
      return true;
    });
  });

  for (const [thrown, text] of [
    ['plain text', 'plain text'],
    [null, 'null'],
    [{ message: 'odd' }, 'odd'],
  ] as const) {
    test.it(`rejects with what the handler threw that is no error: ${JSON.stringify(thrown)}`, async () => {
      const { executor } = context;
      await rejects(
        executor.run(taskFor(executor, 'throwText', { messages: [{ data: thrown }] })),
        (error: unknown) => {
          ok(error instanceof RemoteHandlerError);
          strictEqual(error.message, text);
          return true;
        },
      );
    });
  }

  test.it('can not run a consumer that no worker has', async () => {
    const { executor, inProcess } = context;
    const run = executor.run(taskFor(executor, 'absent'));
    if (inProcess) await run;
    else await rejects(run, ExecutorUnavailable);
  });
}

function rejectionContract(test: TestFunctions, context: ContractContext): void {
  const messages = [{ data: 2 }, { data: 3 }, { data: 4 }, { data: 5 }];

  test.it('tells which messages were rejected by window.reject, next to the result', async () => {
    const { executor } = context;
    deepStrictEqual(await handled(executor, taskFor(executor, 'rejectOdd', { messages })), {
      result: 2,
      rejected: { m1: 'odd: 3', m3: 'odd: 5' },
    });
  });

  test.it('tells which messages were rejected by RejectMessages', async () => {
    const { executor } = context;
    deepStrictEqual(await handled(executor, taskFor(executor, 'throwOdd', { messages })), {
      result: undefined,
      rejected: { m1: 'odd', m3: 'odd' },
    });
  });

  test.it('counts the rejection of a message of another window as a failure', async () => {
    const { executor } = context;
    await rejects(executor.run(taskFor(executor, 'rejectForeign')), (error: unknown) => {
      ok(error instanceof RemoteHandlerError);
      match(error.message, /nowhere is not in window/);
      return true;
    });
  });
}

function lifeContract(test: TestFunctions, context: ContractContext): void {
  test.it('has a name', async () => {
    match(context.executor.name, /\S/);
  });

  test.it('settles when the signal of a task aborts', async () => {
    const { executor } = context;
    const abort = new AbortController();
    const task = taskFor(executor, 'hang', { signal: abort.signal });
    const started = executor.reportsStart ? task.begin() : Promise.resolve();
    const run = executor.run(task).catch(() => undefined);
    await started;
    abort.abort(new Error('too late'));
    await run;
  });

  test.it('says when a worker begins, if it says so at all', async () => {
    const { executor } = context;
    if (!executor.reportsStart) return;
    const task = taskFor(executor, 'echo');
    let begins = 0;
    const begun = task.begin().then(() => (begins += 1));
    await executor.run(task);
    await begun;
    strictEqual(begins, 1);
  });

  test.it('can be closed twice, and runs nothing afterwards', async () => {
    const { executor } = context;
    if (!executor.close) return;
    await executor.run(taskFor(executor, 'echo'));
    await executor.close(SOON);
    await executor.close(SOON);
    await rejects(executor.run(taskFor(executor, 'echo')), ExecutorUnavailable);
  });

  test.it('ends what runs when its time to close is up', async () => {
    const { executor } = context;
    if (!executor.close) return;
    const task = taskFor(executor, 'hang');
    const started = executor.reportsStart ? task.begin() : Promise.resolve();
    const run = executor.run(task).catch(() => undefined);
    await started;
    await executor.close(1);
    await run;
  });
}
