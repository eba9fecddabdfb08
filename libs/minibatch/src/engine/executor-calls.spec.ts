import { describe, expect, it } from 'vitest';
import {
  ExecutorUnavailable,
  ProtocolMismatch,
  ResultLost,
  ResultUnsendable,
  WorkerLost,
} from '../errors/executor-errors.js';
import { RejectMessages } from '../errors/minibatch.error.js';
import type {
  BoundExecutor,
  Executor,
  WindowHandler,
  WindowOutcome,
  WindowTask,
} from '../executors/executor.interface.js';
import { readOutcome } from '../executors/outcome-codec.js';
import { encodeTask } from '../executors/task-codec.js';
import { runTask } from '../executors/task-runner.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { MemoryStreamStore } from '../storage/memory/memory.store.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import type { Window } from '../windows/window.js';
import { type ConsumerChoice, LEASE, Process, stop, STREAM, turns } from './process.spec.support.js';

type Fault = (task: WindowTask) => Promise<never> | undefined;

/** Runs handlers behind the protocol, unless something goes wrong. */
class FarAway implements Executor {
  readonly name = 'far';
  readonly tasks: WindowTask[] = [];
  fault: Fault = () => undefined;

  constructor(
    private readonly handler: WindowHandler,
    readonly reportsStart = false,
  ) {}

  async run(task: WindowTask): Promise<WindowOutcome> {
    this.tasks.push(task);
    await this.fault(task);
    return readOutcome(await runTask(task.encode(), () => this.handler, { signal: task.signal }));
  }
}

/** Fails until it is told to stop. */
function failing(executor: FarAway, error: () => Error): () => void {
  executor.fault = () => Promise.reject(error());
  return () => {
    executor.fault = () => undefined;
  };
}

const RETRY = { base: 1_000, max: 1_000, jitter: 0, attempts: 2 };

function boundTo(executor: Executor): BoundExecutor {
  const consumer = { label: 'Test.default', stream: STREAM, group: 'default', workers: 1 };
  return { executor, consumer, encode: encodeTask };
}

function processOn(database: MemoryDatabase, executor: Executor, choice: ConsumerChoice = {}): Process {
  return new Process(database).consumer({ size: 4, retry: RETRY, ...choice, executor: boundTo(executor) });
}

const deadLetters = (p: Process) => p.store.deadLetters(STREAM, {}, undefined, 100);

describe('a window whose executor is at fault', () => {
  it.each([
    ['can not be reached', () => new ExecutorUnavailable('redis is away'), 'MINIBATCH_EXECUTOR_UNAVAILABLE'],
    ['speaks another protocol', () => new ProtocolMismatch('version 2'), 'MINIBATCH_PROTOCOL_MISMATCH'],
    ['can not send the result', () => new ResultUnsendable('2 MiB'), 'MINIBATCH_RESULT_UNSENDABLE'],
    ['fails in a way of its own', () => new TypeError('no such queue'), 'MINIBATCH_EXECUTOR_FAILED'],
  ])('waits while it %s, counts no attempt, and says what it waits for', async (_, error, code) => {
    const far = new FarAway(({ data }) => data.length);
    const mend = failing(far, error);
    const p = await processOn(new MemoryDatabase(), far).start();
    await p.append(1, 2, 3, 4);
    const since = new Date(p.clock.now());
    await p.advance(60_000);
    const [status] = p.engine.status();
    expect(status).toMatchObject({
      activity: 'blocked',
      failures: 0,
      deadLettered: 0,
      lastError: { code },
      blockedExecutor: { executor: 'far', windows: 1, since, attempts: 61, code, error: expect.stringContaining(code) },
    });
    expect(p.logged.filter((line) => line.includes('wait for the executor far'))).toHaveLength(1);
    mend();
    await p.advance(1_000);
    expect(p.engine.status()[0]).toMatchObject({ committedMessages: 4, failures: 0, activity: 'waiting' });
    expect(p.engine.status()[0]).not.toHaveProperty('blockedExecutor');
    expect(far.tasks.at(-1)?.window).toMatchObject({ id: far.tasks[0]?.window.id, attempt: 1 });
    await stop(p);
  });

  it.each<[string, unknown, string]>([
    ['undefined', undefined, 'answered with undefined in place of { result, rejected }'],
    ['null', null, 'answered with null in place of { result, rejected }'],
    ['a number', 5, 'answered with a number in place of { result, rejected }'],
    ['a page of HTML', '<html>secret</html>', 'answered with a string in place of { result, rejected }'],
    ['no rejected', {}, 'answered with undefined as rejected in place of an array'],
    ['null for rejected', { rejected: null }, 'answered with null as rejected in place of an array'],
    ['a text for rejected', { rejected: 'abc' }, 'answered with a string as rejected in place of an array'],
    ['a map for rejected', { rejected: new Map() }, 'answered with a Map as rejected in place of an array'],
    ['null as an entry', { rejected: [null] }, 'answered with null as rejected[0] in place of { id, error, stack? }'],
    ['an id as an entry', { rejected: ['nowhere'] }, 'answered with a string as rejected[0] in place of'],
    ['an entry without error', { rejected: [{ id: 'nowhere' }] }, 'answered with an object as rejected[0] in place of'],
    [
      'a message of another window',
      { rejected: [{ id: 'nowhere', error: 'odd' }] },
      "answered that it rejected message 'nowhere', which is not in window",
    ],
  ])('waits if the executor answers with %s, and counts nothing', async (_, outcome, words) => {
    const far = new FarAway(() => undefined);
    const { run } = far;
    far.run = () => Promise.resolve(outcome as WindowOutcome);
    const p = await processOn(new MemoryDatabase(), far).start();
    await p.append(1, 2, 3, 4);
    await p.advance(10_000);
    expect(p.engine.status()[0]).toMatchObject({
      activity: 'blocked',
      failures: 0,
      deadLettered: 0,
      blockedExecutor: { code: 'MINIBATCH_EXECUTOR_FAILED', error: expect.stringContaining(`executor far ${words}`) },
    });
    expect(p.engine.status()[0]?.blockedExecutor?.error).not.toContain('secret');
    far.run = run;
    await p.advance(1_000);
    expect(p.engine.status()[0]).toMatchObject({ committedMessages: 4, failures: 0, deadLettered: 0 });
    await stop(p);
  });

  it('takes nothing over from an answer that is wrong in part', async () => {
    const far = new FarAway(() => undefined);
    const { run } = far;
    far.run = ({ ids }) =>
      Promise.resolve({
        result: 1,
        rejected: [
          { id: ids[0] ?? '', error: 'odd' },
          { id: 'nowhere', error: 'odd' },
        ],
      });
    const p = await processOn(new MemoryDatabase(), far).start();
    await p.append(1, 2, 3, 4);
    far.run = run;
    await p.advance(1_000);
    expect(p.engine.status()[0]).toMatchObject({ committedMessages: 4, failures: 0, deadLettered: 0 });
    await stop(p);
  });

  it('runs again with the same id if its result was lost, and is not blocked', async () => {
    const far = new FarAway(() => undefined);
    let losses = 2;
    far.fault = () => (losses-- > 0 ? Promise.reject(new ResultLost('unknown job')) : undefined);
    const p = await processOn(new MemoryDatabase(), far).start();
    await p.append(1, 2, 3, 4);
    expect(p.engine.status()[0]).toMatchObject({ activity: 'handling', failures: 0 });
    expect(p.engine.status()[0]).not.toHaveProperty('blockedExecutor');
    await p.advance(2_000);
    expect(p.engine.status()[0]).toMatchObject({ committedMessages: 4, failures: 0 });
    expect(new Set(far.tasks.map(({ window }) => window.id)).size).toBe(1);
    expect(far.tasks.map(({ window, recoveries }) => [window.attempt, recoveries])).toEqual([
      [1, 0],
      [1, 0],
      [1, 0],
    ]);
    await stop(p);
  });

  it('is given back uncounted when the consumer stops', async () => {
    const database = new MemoryDatabase();
    const far = new FarAway(() => undefined);
    failing(far, () => new ExecutorUnavailable('away'));
    const p = await processOn(database, far).start();
    await p.append(1, 2, 3, 4);
    await stop(p, 5_000);
    const next = await new Process(database).consumer({ size: 4 }).start();
    expect(next.seen).toEqual([expect.objectContaining({ attempt: 1, data: [1, 2, 3, 4] })]);
    await stop(next);
  });

  it('can be given up by an operator', async () => {
    const far = new FarAway(() => undefined);
    failing(far, () => new ExecutorUnavailable('away'));
    const p = await processOn(new MemoryDatabase(), far).start();
    await p.append(1, 2, 3, 4);
    const window = far.tasks[0]?.window.id ?? '';
    await p.store.updateStream(STREAM, { request: { group: 'default', window, action: 'giveUp' } });
    await p.engine.refresh(STREAM);
    await p.advance(1_000);
    expect(p.engine.status()[0]).toMatchObject({ inFlight: 0, deadLettered: 4 });
    await stop(p);
  });

  it('becomes dead letters if the consumer gives up what can not be sent, part by part', async () => {
    const far = new FarAway(({ data }) => ({ data }));
    far.fault = ({ window }) =>
      window.data.includes(3) ? Promise.reject(new ResultUnsendable('too large')) : undefined;
    const taken: unknown[] = [];
    const p = await processOn(new MemoryDatabase(), far, {
      onRefused: 'deadLetter',
      sinks: [{ name: 'List', sink: { put: (result) => void taken.push(result) } }],
    }).start();
    await p.append(1, 2, 3, 4);
    await p.advance(5_000);
    expect(taken).toEqual([{ data: [1, 2] }, { data: [4] }]);
    expect(await deadLetters(p)).toEqual([
      expect.objectContaining({ data: 3, error: expect.stringContaining('too large') }),
    ]);
    await stop(p);
  });
});

describe('a window whose worker is lost', () => {
  it('runs again, counts no attempt, and is bisected after the third time: only what ends workers becomes a dead letter', async () => {
    const far = new FarAway(() => undefined);
    far.fault = ({ window }) =>
      window.data.includes('deadly') ? Promise.reject(new WorkerLost('thread ended')) : undefined;
    const p = await processOn(new MemoryDatabase(), far).start();
    await p.append(1, 2, 'deadly', 4);
    await p.advance(120_000);
    await p.append(5, 6, 7, 8);
    await p.advance(120_000);
    expect(p.engine.status()[0]).toMatchObject({ committedMessages: 8, failures: 0, deadLettered: 1, inFlight: 0 });
    expect(await deadLetters(p)).toEqual([
      expect.objectContaining({ data: 'deadly', error: expect.stringContaining('thread ended'), attempts: 1 }),
    ]);
    const whole = far.tasks.filter(({ window }) => window.data.length === 4 && window.data.includes('deadly'));
    expect(whole.slice(0, 3).map(({ recoveries, window }) => [recoveries, window.attempt])).toEqual([
      [0, 1],
      [1, 1],
      [2, 1],
    ]);
    // Alone it gets three chances, and three more once others have shown that the worker is not at fault.
    expect(far.tasks.filter(({ window }) => window.data.length === 1 && window.data[0] === 'deadly')).toHaveLength(6);
    expect(p.engine.status()[0]?.lostWorkers).toBe(10);
    await stop(p);
  });

  it('has its losses stored, so that the next holder of the lease continues to count', async () => {
    const database = new MemoryDatabase();
    const far = new FarAway(() => undefined);
    failing(far, () => new WorkerLost('gone'));
    const p = await processOn(database, far).start();
    await p.append(1, 2, 3, 4);
    await p.advance(1_000);
    expect(far.tasks).toHaveLength(2);
    p.kill();
    const key = { stream: STREAM, group: 'default', partition: 0 };
    const stored = await new MemoryStreamStore(database).readWindows(key, 'claimed', undefined, 10);
    expect(stored.windows).toEqual([expect.objectContaining({ attempt: 1, recoveries: 2 })]);
  });
});

describe('a window that was out when the process that held its lease died', () => {
  /** A process that takes over after the wait for the lease. */
  async function heirOf(p: Process, database: MemoryDatabase, executor: Executor, choice: ConsumerChoice) {
    const heir = new Process(database, { clock: new VirtualClock(p.clock.now()) });
    heir.consumer({ retry: RETRY, ...choice, executor: boundTo(executor) });
    await heir.engine.start();
    await heir.clock.advance(LEASE * 1.5, () => turns(() => false, 60));
    return heir;
  }

  it.each([
    [true, [0, 0, 0]],
    // Its thread ended with the process, and may be what ended it: they run one at a time.
    [undefined, [3]],
  ])('is no suspect if handlers run in processes of their own (%s)', async (runsElsewhere, recoveries) => {
    const database = new MemoryDatabase();
    const far = Object.assign(new FarAway(() => undefined), { runsElsewhere });
    far.fault = () => new Promise<never>(() => undefined);
    const choice = { size: 1, workers: 3 };
    const store = new MemoryStreamStore(database);
    await store.ensureStream(STREAM);
    await store.append([1, 2, 3].map((data) => ({ stream: STREAM, data, created: new Date() })));
    const key = { stream: STREAM, group: 'default', partition: 0 };
    const open = async () =>
      (await store.readWindows(key, 'claimed', undefined, 10)).windows.map((window) => window.recoveries);
    let p = processOn(database, far, choice);
    await p.engine.start();
    await turns(() => far.tasks.length === 3);
    for (let deaths = 0; deaths < 2; deaths += 1) {
      p.kill();
      far.tasks.length = 0;
      p = await heirOf(p, database, far, choice);
    }
    expect(far.tasks.map((task) => task.recoveries)).toEqual(recoveries);
    expect(await open()).toEqual(runsElsewhere ? [0, 0, 0] : [3, 1, 1]);
    p.kill();
  });

  it('keeps the losses of its workers, whether the process died or was stopped', async () => {
    const database = new MemoryDatabase();
    const far = Object.assign(new FarAway(() => undefined), { runsElsewhere: true });
    failing(far, () => new WorkerLost('gone'));
    const p = await processOn(database, far).start();
    await p.append(1, 2, 3, 4);
    await p.advance(1_000);
    await stop(p);
    far.fault = () => new Promise<never>(() => undefined);
    const next = await heirOf(p, database, far, { size: 4 });
    expect(far.tasks.map(({ recoveries }) => recoveries)).toEqual([0, 1, 2]);
    next.kill();
  });
});

describe('a handler behind an executor', () => {
  it('fails as one in the process: attempts, then bisection, with text and stack of what it threw', async () => {
    const handler = ({ data }: Window) => {
      if (data.includes('bad')) throw new RangeError('no bad ones');
    };
    const far = new FarAway(handler);
    const p = await processOn(new MemoryDatabase(), far).start();
    await p.append(1, 'bad', 3, 4);
    await p.advance(60_000);
    expect(p.engine.status()[0]).toMatchObject({ committedMessages: 4, deadLettered: 1, lostWorkers: 0 });
    const [letter] = await deadLetters(p);
    expect(letter).toMatchObject({ data: 'bad', error: 'no bad ones' });
    expect(letter?.stack).toMatch(/^RangeError: no bad ones\n.*executor-calls\.spec/);
    const parts = far.tasks.filter(({ window }) => window.split);
    expect(parts[0]?.window.split).toEqual({ of: far.tasks[0]?.window.id, from: 0, to: 2 });
    await stop(p);
  });

  it.each<[string, WindowHandler]>([
    [
      'window.reject',
      (window) => {
        window.reject(window.messages[1]!, 'odd');
        return 'result';
      },
    ],
    [
      'RejectMessages',
      (window) => {
        const message = window.messages.find(({ data }) => data === 2);
        if (message) throw new RejectMessages([{ message, reason: 'odd' }]);
      },
    ],
  ])('rejects messages by %s', async (way, handler) => {
    const far = new FarAway((window) =>
      window.data.includes(2) && window.data.length > 1 ? handler(window) : rejectAll(window),
    );
    const taken: unknown[] = [];
    const p = await processOn(new MemoryDatabase(), far, {
      sinks: [{ name: 'List', sink: { put: (result) => void taken.push(result) } }],
    }).start();
    await p.append(1, 2, 3, 4);
    await p.advance(1_000);
    expect(await deadLetters(p)).toEqual([expect.objectContaining({ data: 2, error: 'odd' })]);
    expect(taken).toEqual(way === 'window.reject' ? ['result'] : []);
    expect(p.engine.status()[0]).toMatchObject({ committedMessages: 4, failures: 0 });
    await stop(p);
  });

  it('makes dead letters of messages that the worker can not decode, and of no others', async () => {
    const far = new FarAway(() => undefined);
    const database = new MemoryDatabase();
    const p = await processOn(database, far).start();
    const damaged = new Error('damaged');
    far.fault = ({ window }) => {
      if (far.tasks.length > 1) return undefined;
      const [, second] = (window as unknown as { stored: { read: () => unknown; content?: unknown }[] }).stored;
      second!.read = () => {
        throw damaged;
      };
      second!.content = () => ({ bson: Buffer.from([5, 0, 0, 0, 9]), int64: 'bigint' });
      return undefined;
    };
    await p.append(1, 2, 3, 4);
    await p.advance(1_000);
    expect(await deadLetters(p)).toEqual([expect.objectContaining({ error: expect.stringContaining('damaged') })]);
    expect(far.tasks.map(({ ids }) => ids.length)).toEqual([4, 3]);
    expect(p.engine.status()[0]).toMatchObject({ failures: 0, committedMessages: 4 });
    await stop(p);
  });

  it('has its time limit; the signal of its task aborts', async () => {
    const far = new FarAway(() => undefined);
    far.fault = ({ signal }) =>
      new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(new ExecutorUnavailable('too late to matter'))),
      );
    const p = await processOn(new MemoryDatabase(), far, { retry: { ...RETRY, timeout: 500 } }).start();
    await p.put(1, 2, 3, 4);
    await turns(() => far.tasks.length > 0);
    await p.clock.advance(600, () => turns(() => false, 20));
    expect(far.tasks[0]?.signal.aborted).toBe(true);
    expect(p.engine.status()[0]).toMatchObject({ failures: 1, lastError: { code: 'MINIBATCH_HANDLER_TIMEOUT' } });
    await stop(p);
  });

  it('is not charged for the time it waits for a worker, if the executor says when one begins', async () => {
    const far = new FarAway(() => undefined, true);
    let begin = (): void => undefined;
    far.fault = (task) =>
      new Promise((_, reject) => {
        begin = () => task.started();
        task.signal.addEventListener('abort', () => reject(new Error('aborted')));
      });
    const p = await processOn(new MemoryDatabase(), far, { retry: { ...RETRY, timeout: 500 } }).start();
    await p.put(1, 2, 3, 4);
    await turns(() => far.tasks.length > 0);
    await p.clock.advance(60_000, () => turns(() => false, 5));
    expect(p.engine.status()[0]).toMatchObject({ failures: 0 });
    begin();
    await p.clock.advance(600, () => turns(() => false, 20));
    expect(p.engine.status()[0]).toMatchObject({ failures: 1 });
    await stop(p);
  });

  it('need not send a result that nobody takes', async () => {
    const far = new FarAway(() => () => undefined);
    const p = await processOn(new MemoryDatabase(), far).start();
    await p.append(1, 2, 3, 4);
    expect(far.tasks[0]?.wantsResult).toBe(false);
    expect(p.engine.status()[0]).toMatchObject({ committedMessages: 4 });
    await stop(p);
  });
});

function rejectAll(window: Window): void {
  for (const message of window.messages) if (message.data === 2) window.reject(message, 'odd');
}
