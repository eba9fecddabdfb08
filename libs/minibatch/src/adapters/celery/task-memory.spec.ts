import { describe, expect, it } from 'vitest';
import { TaskMemory } from './task-memory.js';

describe('the memory of tasks', () => {
  it('gathers what events say of a task', () => {
    const memory = new TaskMemory(10);
    memory.learn('a', { type: 'task-sent', name: 'app.a', args: '()', eta: null });
    memory.learn('a', { type: 'task-retried', exception: 'E()', traceback: '…' });
    expect(memory.learn('a', { type: 'task-succeeded', result: '1', runtime: 2 })).toEqual({
      name: 'app.a',
      info: { args: '()', exception: 'E()', result: '1', runtime: 2 },
    });
  });

  it('does not change what it has told', () => {
    const memory = new TaskMemory(10);
    const before = memory.learn('a', { type: 'task-received', retries: 0 });
    memory.learn('a', { type: 'task-received', retries: 1 });
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
