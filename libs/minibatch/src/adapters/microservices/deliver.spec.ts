import type { ClientProxy } from '@nestjs/microservices';
import { NEVER } from 'rxjs';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Window } from '../../windows/window.js';
import { ClientProxySink } from './client-proxy.sink.js';

const DAY = 24 * 60 * 60 * 1_000;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it('waits for a reply as long as it is told to, also for longer than a timer of Node lasts', async () => {
  const send = vi.fn(() => NEVER);
  const client = { send, emit: send, connect: () => Promise.resolve() } as unknown as ClientProxy;
  const sink = new ClientProxySink({ client, pattern: 'p', mode: 'send', timeout: '25 days' });
  const window = { id: 'w', signal: new AbortController().signal } as unknown as Window;
  let error: unknown;
  void sink.put(1, window).catch((reason: unknown) => (error = reason));
  await vi.advanceTimersByTimeAsync(25 * DAY - 1);
  expect(error).toBeUndefined();
  await vi.advanceTimersByTimeAsync(1);
  expect(error).toMatchObject({ message: expect.stringContaining(`no reply within ${25 * DAY} ms`) });
  expect(send).toHaveBeenCalledTimes(1);
});
