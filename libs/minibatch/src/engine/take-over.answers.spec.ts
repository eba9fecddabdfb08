import { describe, expect, it } from 'vitest';
import type { Executor, WindowOutcome, WindowTask } from '../executors/executor.interface.js';
import { WorkerLost } from '../errors/executor-errors.js';
import { encodeTask } from '../executors/task-codec.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { CountWindow } from '../windows/count.window.js';
import type { ConsumerDefinition } from './engine.interface.js';
import { LEASE, Process, stop, STREAM, turns } from './process.spec.support.js';
import { never, useTakeOver } from './take-over.spec.support.js';

/** Its methods run in processes that outlive the emitter; their result is what they were given. */
class Elsewhere implements Executor {
  readonly name = 'elsewhere';
  readonly runsElsewhere = true;
  readonly tasks: WindowTask[] = [];
  /** Keeps or loses the task of a worker. */
  fault: (task: WindowTask) => Promise<never> | undefined = () => undefined;

  async run(task: WindowTask): Promise<WindowOutcome> {
    this.tasks.push(task);
    await this.fault(task);
    return { result: task.window.data, rejected: [] };
  }

  get runs(): string[] {
    return this.tasks.map(({ window }) => window.data.join('+'));
  }
}

/** Shows each result to `see`. */
class Watching extends CountWindow {
  constructor(private readonly see: (result: unknown) => void) {
    super();
  }

  override onEmit(_: unknown, result: unknown): void {
    this.see(result);
  }
}

describe('a window whose result ends the process that holds the lease', () => {
  const test = useTakeOver();
  const letters = () => test.plain.deadLetters(STREAM, {}, undefined, 10);
  const open = async () =>
    (await test.plain.readWindows({ stream: STREAM, group: 'default', partition: 0 }, 'claimed', undefined, 10))
      .windows;

  interface Choice extends Partial<Pick<ConsumerDefinition, 'workers' | 'onAllFailed'>> {
    readonly size: number;
    /** A hook of the emitter sees the result before the sinks do. */
    readonly hook?: boolean;
  }

  /** Processes one after another. Each is cut off by a result that has the message 'deadly', or when its time is up. */
  class Processes {
    readonly executor = new Elsewhere();
    readonly taken: unknown[] = [];
    /** Called with each result; true ends the process. */
    isDeadly = (result: readonly unknown[]) => result.includes('deadly');
    private at = new VirtualClock().now();

    constructor(private readonly choice: Choice) {}

    async next(): Promise<{ p: Process; died: boolean }> {
      const { hook = false, ...choice } = this.choice;
      const p = new Process(test.database, { clock: new VirtualClock(this.at) });
      const life = { died: false };
      const end = (result: unknown): boolean => {
        if (!life.died && !this.isDeadly(result as readonly unknown[])) return false;
        life.died = true;
        p.kill();
        return true;
      };
      const consumer = { label: 'Test.default', stream: STREAM, group: 'default', workers: 1 };
      const put = (result: unknown) => {
        if (end(result)) return never();
        this.taken.push(...(result as unknown[]));
        return Promise.resolve();
      };
      p.consumer({
        ...choice,
        ...(hook && { emitter: new Watching(end) }),
        executor: { executor: this.executor, consumer, encode: encodeTask },
        sinks: [{ name: 'List', sink: { put } }],
      });
      await p.engine.start();
      await p.clock.advance(LEASE * 1.5, () => turns(() => false, 60));
      this.at = p.clock.now();
      return { p, died: life.died };
    }

    /** Until one of them lives. @returns how many died */
    async untilOneLives(most = 40): Promise<{ deaths: number; p: Process }> {
      for (let deaths = 0; deaths < most; deaths += 1) {
        const { p, died } = await this.next();
        if (!died) return { deaths, p };
      }
      throw new Error(`${most} processes died`);
    }
  }

  it.each([
    ['a sink', false],
    ['a hook of the emitter', true],
  ])('in %s is taken apart, and only the message that does so becomes a dead letter', async (_, hook) => {
    await test.append(1, 'deadly');
    const processes = new Processes({ size: 2, hook });
    const { deaths, p } = await processes.untilOneLives();
    expect(await letters()).toEqual([
      expect.objectContaining({ data: 'deadly', attempts: 1, error: 'the process ended while it was handled' }),
    ]);
    expect(processes.taken).toEqual([1]);
    // Once before anybody counts, three times with the other, three times alone, and three times more after the other has succeeded.
    expect(deaths).toBe(10);
    expect(processes.executor.runs).toEqual([
      ...Array<string>(4).fill('1+deadly'),
      '1',
      ...Array<string>(6).fill('deadly'),
    ]);
    expect(await open()).toEqual([]);
    await stop(p);
  });

  it('takes no other window with it, whatever runs at the same time', async () => {
    await test.append(1, 'deadly', 3, 4, 5, 6);
    const processes = new Processes({ size: 1, workers: 3 });
    const { p } = await processes.untilOneLives();
    expect((await letters()).map(({ data }) => data)).toEqual(['deadly']);
    expect([...new Set(processes.taken)].sort()).toEqual([1, 3, 4, 5, 6]);
    await stop(p);
  });

  it.each([1, 2])('counts no attempt, and is handled as a whole, if only %d processes die', async (most) => {
    await test.append(1, 2);
    const processes = new Processes({ size: 2 });
    let left = most;
    processes.isDeadly = () => left-- > 0;
    const { deaths, p } = await processes.untilOneLives();
    expect(deaths).toBe(most);
    expect(processes.executor.runs).toEqual(Array<string>(most + 1).fill('1+2'));
    expect(processes.executor.tasks.map(({ window }) => window.attempt)).toEqual(Array<number>(most + 1).fill(1));
    expect(await letters()).toEqual([]);
    await stop(p);
  });

  it('is asked for with the same number as long as no answer came back, however many processes die', async () => {
    await test.append(1, 2);
    const processes = new Processes({ size: 2 });
    processes.executor.fault = never;
    for (let rounds = 0; rounds < 6; rounds += 1) (await processes.next()).p.kill();
    processes.executor.fault = () => undefined;
    const { p } = await processes.next();
    expect(processes.executor.tasks.map(({ recoveries }) => recoveries)).toEqual(Array<number>(7).fill(0));
    expect(processes.taken).toEqual([1, 2]);
    await stop(p);
  });

  it('is counted by nobody who is stopped in an orderly way', async () => {
    await test.append(1, 2);
    const processes = new Processes({ size: 2 });
    processes.executor.fault = never;
    for (let rounds = 0; rounds < 6; rounds += 1) await stop((await processes.next()).p);
    expect(await open()).toEqual([expect.objectContaining({ attempt: 1, recoveries: 0 })]);
  });

  it('keeps the losses of its workers apart: a lost worker is counted once', async () => {
    await test.append(1, 2);
    const processes = new Processes({ size: 2 });
    processes.executor.fault = never;
    (await processes.next()).p.kill();
    let losses = 2;
    processes.executor.fault = () => (losses-- > 0 ? Promise.reject(new WorkerLost('gone')) : undefined);
    const { p } = await processes.next();
    expect(processes.executor.tasks.map(({ recoveries }) => recoveries)).toEqual([0, 0, 1, 2]);
    expect(processes.executor.runs).toEqual(Array<string>(4).fill('1+2'));
    expect(processes.taken).toEqual([1, 2]);
    await stop(p);
  });
});
