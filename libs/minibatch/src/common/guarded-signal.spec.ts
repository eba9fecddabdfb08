import { setImmediate } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { guarded } from './guarded-signal.js';

function setUp() {
  const controller = new AbortController();
  const threw: unknown[] = [];
  const signal = guarded(controller.signal, (error) => threw.push(error));
  return { controller, signal, threw };
}

describe('a guarded signal', () => {
  it('tells what listeners of all kinds throw, and calls the others', async () => {
    const { controller, signal, threw } = setUp();
    const last = vi.fn();
    signal.addEventListener('abort', () => {
      throw new Error('function');
    });
    signal.addEventListener('abort', {
      handleEvent() {
        throw new Error('object');
      },
    });
    const rejects: () => unknown = async () => {
      throw new Error('promise');
    };
    signal.addEventListener('abort', rejects);
    signal.onabort = () => {
      throw new Error('property');
    };
    signal.addEventListener('abort', last);
    controller.abort();
    await setImmediate();
    expect(threw.map((error) => (error as Error).message).toSorted()).toEqual([
      'function',
      'object',
      'promise',
      'property',
    ]);
    expect(last).toHaveBeenCalledTimes(1);
  });

  it('adds and removes as any other', async () => {
    const { controller, signal } = setUp();
    const [added, removed, ended] = [vi.fn(), vi.fn(), vi.fn()];
    signal.addEventListener('abort', added);
    signal.addEventListener('abort', added);
    signal.addEventListener('abort', removed);
    signal.removeEventListener('abort', removed);
    const end = new AbortController();
    signal.addEventListener('abort', ended, { signal: end.signal, once: true });
    end.abort();
    const derived = AbortSignal.any([signal]);
    expect(() => signal.addEventListener('abort', 1 as never)).toThrow(TypeError);
    controller.abort('why');
    expect([added, removed, ended].map((listener) => listener.mock.calls.length)).toEqual([1, 0, 0]);
    expect(added.mock.contexts[0]).toBe(signal);
    expect([derived.aborted, signal.reason]).toEqual([true, 'why']);
  });
});
