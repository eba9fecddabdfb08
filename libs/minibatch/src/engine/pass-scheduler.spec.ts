import { describe, expect, it } from 'vitest';
import { Activity } from '../common/activity.js';
import { PassScheduler } from './pass-scheduler.js';

describe('PassScheduler', () => {
  function scheduler({ isOver = false } = {}) {
    const activity = new Activity();
    const seen: string[] = [];
    const passes = new PassScheduler(
      { isOver, parts: { activity } },
      () => seen.push('pass'),
      (error) => seen.push(`failed: ${String(error)}`),
    );
    return { passes, activity, seen };
  }

  it('runs one pass, however often it is asked for', async () => {
    const { passes, activity, seen } = scheduler();
    passes.schedule();
    passes.schedule();
    expect(seen).toEqual([]);
    await activity.idle();
    expect(seen).toEqual(['pass']);
  });

  it('runs one pass at the end of a task, though its end has asked for one as well', async () => {
    const { passes, activity, seen } = scheduler();
    passes.startTask(
      () => Promise.resolve('result'),
      (result) => {
        seen.push(`ended: ${result}`);
        passes.schedule();
      },
    );
    await activity.idle();
    expect(seen).toEqual(['ended: result', 'pass']);
  });

  it('reports what a task fails with after telling that it has ended, and runs a pass', async () => {
    const { passes, activity, seen } = scheduler();
    passes.startTask<string>(
      () => Promise.reject(new Error('no')),
      (result) => seen.push(`ended: ${result}`),
    );
    await activity.idle();
    expect(seen).toEqual(['ended: undefined', 'failed: Error: no', 'pass']);
  });

  it('reports what the end of a task throws', async () => {
    const { passes, activity, seen } = scheduler();
    passes.startTask(
      () => Promise.resolve(),
      () => {
        throw new Error('a bug');
      },
    );
    await activity.idle();
    expect(seen).toEqual(['failed: Error: a bug', 'pass']);
  });

  it('runs no pass when the lease term is over', async () => {
    const { passes, activity, seen } = scheduler({ isOver: true });
    passes.schedule();
    await activity.idle();
    expect(seen).toEqual([]);
  });
});
