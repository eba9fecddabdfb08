import { describe, expect, it } from 'vitest';
import type { CeleryEvent } from './event-body.js';
import { TaskMemory } from './task-memory.js';

describe('the memory of tasks', () => {
  /** What is told of the last of the events. */
  const lastOf = (...events: CeleryEvent[]) => {
    const memory = new TaskMemory(10);
    return events.map((event) => memory.learn('a', event)).at(-1);
  };
  const received = (more: object = {}): CeleryEvent => ({ type: 'task-received', name: 'app.a', retries: 0, ...more });
  const sent = (more: object = {}): CeleryEvent => ({ type: 'task-sent', name: 'app.a', retries: 0, ...more });
  const succeeded: CeleryEvent = { type: 'task-succeeded', result: '1', runtime: 2 };
  const failed: CeleryEvent = { type: 'task-failed', exception: 'F()' };
  const retried: CeleryEvent = { type: 'task-retried', exception: 'R()', traceback: '…' };

  it('gathers what events say of a run', () => {
    expect(lastOf(sent({ args: '()', exchange: 'e' }), received({ args: '()', root_id: 'r' }), succeeded)).toEqual({
      name: 'app.a',
      info: { args: '()', retries: 0, exchange: 'e', root_id: 'r', result: '1', runtime: 2 },
    });
  });

  it('begins anew with each delivery', () => {
    expect(lastOf(received({ eta: 'monday', args: '(1)' }), succeeded, received({ args: '(2)' }), failed)).toEqual({
      name: 'app.a',
      info: { args: '(2)', retries: 0, exception: 'F()' },
    });
  });

  it('tells of an outcome only with the event that has it', () => {
    expect(lastOf(received(), retried, received({ retries: 1 }), succeeded)?.info).toEqual({
      retries: 1,
      result: '1',
      runtime: 2,
    });
    expect(lastOf(received(), succeeded, { type: 'task-revoked' })?.info).toEqual({ retries: 0 });
  });

  it('forgets what is told to be null', () => {
    expect(
      lastOf(sent({ eta: 'monday', parent_id: 'p' }), { type: 'task-started', eta: null, parent_id: null })?.info,
    ).toEqual({ retries: 0 });
  });

  it('tells of a retry as the run that is retried, though the next one is received before', () => {
    const first = [sent({ exchange: 'e', eta: 'now' }), received({ eta: 'now' }), sent({ retries: 1, eta: 'later' })];
    const second = received({ retries: 1, eta: 'later' });
    expect(lastOf(...first, second, retried)?.info).toEqual({
      retries: 0,
      eta: 'now',
      exchange: 'e',
      exception: 'R()',
    });
    expect(lastOf(...first, retried)?.info).toMatchObject({ retries: 0, eta: 'now' });
    expect(lastOf(...first, second, retried, succeeded)?.info).toEqual({
      retries: 1,
      eta: 'later',
      result: '1',
      runtime: 2,
    });
    // The next night, while it was never heard how the last one ended.
    expect(lastOf(...first, second, received({ eta: 'tonight' }), retried)?.info).toEqual({
      retries: 0,
      eta: 'tonight',
      exception: 'R()',
    });
  });

  it('keeps what was told of the sending, whenever that comes', () => {
    const late = sent({ exchange: 'e', args: '(0)' });
    expect(lastOf(received({ args: '(1)' }), late, succeeded)?.info).toMatchObject({ args: '(1)', exchange: 'e' });
    // Delivered again, and not sent again.
    expect(lastOf(late, received(), succeeded, received(), failed)?.info).toEqual({
      retries: 0,
      exchange: 'e',
      exception: 'F()',
    });
    // Sent again, and never received.
    expect(lastOf(late, received({ eta: 'monday' }), succeeded, sent(), { type: 'task-revoked' })?.info).toEqual({
      retries: 0,
    });
  });

  it('does not change what it has told', () => {
    const memory = new TaskMemory(10);
    const before = memory.learn('a', { type: 'task-received', retries: 0 });
    memory.learn('a', { type: 'task-started', retries: 1 });
    expect(before.info).toEqual({ retries: 0 });
  });

  it('is bounded: it forgets what it has not heard of for longest', () => {
    const memory = new TaskMemory(1000);
    for (let task = 0; task < 50_000; task += 1) {
      memory.learn(`task-${task}`, { type: 'task-received', name: `name-${task}` });
      memory.learn('busy', { type: 'task-progress', ...(task === 0 ? { name: 'app.busy' } : {}) });
      expect(memory.size).toBeLessThanOrEqual(1000);
    }
    const nameOf = (uuid: string) => memory.learn(uuid, { type: 'task-succeeded' }).name;
    expect(nameOf('busy')).toBe('app.busy');
    expect(nameOf('task-49999')).toBe('name-49999');
    expect(nameOf('task-0')).toBeUndefined();
  });

  it('may remember nothing', () => {
    const memory = new TaskMemory(0);
    memory.learn('a', { type: 'task-received', name: 'app.a' });
    expect(memory.size).toBe(0);
    expect(memory.learn('a', { type: 'task-succeeded' }).name).toBeUndefined();
  });
});
