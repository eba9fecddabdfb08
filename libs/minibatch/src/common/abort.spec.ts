import { getEventListeners } from 'node:events';
import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '../testing/virtual-clock.js';
import { aborted, orAborted, unlessAborted } from './abort.js';

let controller: AbortController;
let signal: AbortSignal;

const listeners = () => getEventListeners(signal, 'abort').length;
const never = () => new Promise<string>(() => undefined);

beforeEach(() => {
  controller = new AbortController();
  ({ signal } = controller);
});

describe('unlessAborted', () => {
  it('settles as the promise does, and leaves no listener', async () => {
    await expect(unlessAborted(Promise.resolve('done'), signal)).resolves.toBe('done');
    await expect(unlessAborted(Promise.reject(new Error('broken')), signal)).rejects.toThrow('broken');
    expect(listeners()).toBe(0);
  });

  it.each([true, false])('is undefined when the signal aborts first (aborted before the call: %s)', async (before) => {
    if (before) controller.abort();
    const answer = unlessAborted(never(), signal);
    controller.abort();
    await expect(answer).resolves.toBeUndefined();
  });

  it('ignores a promise that is rejected after the signal has aborted', async () => {
    let fail!: (error: Error) => void;
    const answer = unlessAborted(new Promise<never>((_, reject) => (fail = reject)), signal);
    controller.abort();
    fail(new Error('too late'));
    await expect(answer).resolves.toBeUndefined();
  });

  it('gives the promise its grace, and cancels the timer when it settles in time', async () => {
    const clock = new VirtualClock();
    let finish!: (value: string) => void;
    const timely = unlessAborted(new Promise<string>((resolve) => (finish = resolve)), signal, { clock, ms: 400 });
    const late = unlessAborted(never(), signal, { clock, ms: 500 });
    controller.abort();
    await clock.advance(399);
    finish('just in time');
    await expect(timely).resolves.toBe('just in time');
    await clock.advance(101);
    await expect(late).resolves.toBeUndefined();
  });
});

describe('orAborted', () => {
  it('settles as the promise does, and leaves no listener', async () => {
    const reason = () => new Error('given up');
    await expect(orAborted(Promise.resolve('done'), signal, reason)).resolves.toBe('done');
    expect(listeners()).toBe(0);
  });

  it.each([true, false])('rejects when the signal aborts first (aborted before the call: %s)', async (before) => {
    if (before) controller.abort();
    const answer = orAborted(never(), signal, () => new Error('given up'));
    controller.abort();
    await expect(answer).rejects.toThrow('given up');
  });
});

describe('aborted', () => {
  it('resolves when the signal aborts, also if it has aborted before', async () => {
    const answer = aborted(signal);
    controller.abort();
    await expect(answer).resolves.toBeUndefined();
    await expect(aborted(signal)).resolves.toBeUndefined();
  });

  it('removes its listener when it is to be forgotten', () => {
    const forget = new AbortController();
    void aborted(signal, forget.signal);
    expect(listeners()).toBe(1);
    forget.abort();
    expect(listeners()).toBe(0);
  });
});
