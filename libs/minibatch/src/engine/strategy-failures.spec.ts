import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../errors/minibatch.error.js';
import { MemoryDatabase } from '../storage/memory/memory.database.js';
import { CountWindow } from '../windows/count.window.js';
import type { MessageView, ReadPlan } from '../windows/window-emitter.js';
import { Process, stop } from './process.spec.support.js';

/** How often a method of the strategy fails, once it has seen as many messages as a window has. */
class Failing extends CountWindow {
  times = 2;
  private seen = 0;

  constructor(private readonly method: string) {
    super();
  }

  private fail(method: string): void {
    if (method !== this.method || (method !== 'init' && this.seen < 3) || this.times === 0) return;
    this.times -= 1;
    throw new Error(`planted in ${method}`);
  }

  override async init(context: Parameters<CountWindow['init']>[0]): Promise<void> {
    this.fail('init');
    await super.init(context);
  }

  override observe(view: MessageView): void {
    this.seen = Math.max(this.seen, view.length);
    super.observe(view);
    this.fail('observe');
  }

  override windowReady(view: MessageView): boolean {
    this.fail('windowReady');
    return super.windowReady(view);
  }

  override query(view: MessageView): ReturnType<CountWindow['query']> {
    this.fail('query');
    return super.query(view);
  }

  override emitted(selection: Parameters<CountWindow['emitted']>[0]): void {
    this.fail('emitted');
    super.emitted(selection);
  }

  override nextCheck(view: MessageView): number | undefined {
    this.fail('nextCheck');
    return super.nextCheck(view);
  }

  override reads(...args: Parameters<CountWindow['reads']>): ReadPlan {
    this.fail('reads');
    return super.reads(...args);
  }
}

/** Throws each second time that the method is called. */
function everySecond(method: string): CountWindow {
  const emitter = new CountWindow();
  const own = Reflect.get(emitter, method) as (...args: unknown[]) => unknown;
  let calls = 0;
  Reflect.set(emitter, method, (...args: unknown[]) => {
    calls += 1;
    if (calls % 2 === 0) throw new Error(`planted in ${method}`);
    return own.apply(emitter, args);
  });
  return emitter;
}

const METHODS = ['init', 'observe', 'windowReady', 'query', 'emitted', 'nextCheck', 'reads'];

async function run(emitter: CountWindow) {
  const p = await new Process(new MemoryDatabase()).consumer({ size: 3, emitter }).start();
  await p.append(0, 1, 2, 3, 4, 5);
  await p.append(6);
  await p.append(7, 8);
  await p.advance(60_000);
  const status = p.engine.status()[0];
  const stopping = p.engine.stop(0);
  await p.advance(10_000);
  await stopping;
  return { p, status };
}

describe('a strategy that fails', () => {
  it.each(METHODS)('in %s gets every message all the same, once it works again', async (method) => {
    const emitter = new Failing(method);
    const { p, status } = await run(emitter);
    expect(emitter.times).toBe(0);
    expect(p.values).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(status?.lastError).toMatchObject({
      code: ErrorCode.EmitterFailed,
      message: expect.stringContaining(`${method}()`) as string,
    });
    expect(status?.lastError?.message).toContain(`planted in ${method}`);
  });

  it.each(['observe', 'windowReady', 'query', 'emitted', 'nextCheck', 'reads'])(
    'in %s each second time goes on after a second, however often it has failed',
    async (method) => {
      const p = await new Process(new MemoryDatabase()).consumer({ size: 3, emitter: everySecond(method) }).start();
      for (let window = 1; window <= 20; window += 1) {
        await p.append(1, 2, 3);
        await p.advance(3_000);
        expect(p.values).toHaveLength(3 * window);
      }
      await stop(p);
    },
  );

  it('in reads each second time while it wants to see nothing is asked again after a second', async () => {
    class Idle extends CountWindow {
      readonly failed: number[] = [];
      private calls = 0;

      override reads(now: number): ReadPlan {
        this.calls += 1;
        if (this.calls % 2 === 1) return { order: 'idle', until: now + 100 };
        this.failed.push(now);
        throw new Error('planted');
      }
    }
    const emitter = new Idle();
    const p = await new Process(new MemoryDatabase()).consumer({ size: 3, emitter }).start();
    await p.advance(60_000);
    expect(emitter.failed.length).toBeGreaterThan(50);
    await stop(p);
  });

  it('each time is asked again after growing waits, which the log says, and health calls it stalled', async () => {
    const emitter = new Failing('windowReady');
    emitter.times = 8;
    const p = await new Process(new MemoryDatabase()).consumer({ size: 3, emitter }).start();
    await p.append(1, 2, 3);
    await p.advance(100_000);
    expect(p.engine.status()[0]).toMatchObject({ activity: 'stalled', lastError: { code: ErrorCode.EmitterFailed } });
    const waits = p.logged.flatMap((line) => /asked again in ([\d.]+) s/.exec(line)?.[1] ?? []).map(Number);
    expect(waits).toHaveLength(7);
    for (const [i, wait] of waits.entries()) {
      expect(wait).toBeLessThanOrEqual(Math.min(60, 2 ** i));
      expect(wait).toBeGreaterThanOrEqual(0.9 * Math.min(60, 2 ** i) - 0.05);
    }
    await p.advance(120_000);
    expect(p.values).toEqual([1, 2, 3]);
    expect(p.engine.status()[0]?.activity).toBe('waiting');
    await stop(p);
  });

  it.each([
    ['an unknown order', { order: 'what' }],
    ['nothing', undefined],
    ['a promise', Promise.resolve({ order: 'append' })],
    ['an idle time that is none', { order: 'idle', until: NaN }],
    ['no ranges', { order: 'time' }],
    ['empty ranges', { order: 'time', ranges: [] }],
    ['ranges of dates', { order: 'time', ranges: [{ from: new Date(0) }] }],
    ['a room that is no number', { order: 'append', room: '5' }],
  ])('and wants to read %s is told what is allowed, and asked again', async (_name, plan) => {
    class Confused extends CountWindow {
      times = 2;

      override reads(...args: Parameters<CountWindow['reads']>): ReadPlan {
        if (this.times === 0) return super.reads(...args);
        this.times -= 1;
        return plan as ReadPlan;
      }
    }
    const { p, status } = await run(new Confused());
    expect(p.values).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(status?.lastError).toMatchObject({
      code: ErrorCode.EmitterFailed,
      message: expect.stringContaining("Allowed: { order: 'append', room?, maxAge? }") as string,
    });
  });
});
