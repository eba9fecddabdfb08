import { expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import type { Window } from '../../windows/window.js';
import { KafkaSink } from './kafka.sink.js';

it('opens no new connection after the application was shut down', async () => {
  const sink = new KafkaSink({ kafka: { brokers: ['127.0.0.1:1'] }, topic: 'reports' });
  await sink.onApplicationShutdown();
  const window = { id: 'w', signal: new AbortController().signal } as Window;
  await expect(sink.put({ delay: 1 }, window)).rejects.toMatchObject({ code: ErrorCode.ShuttingDown });
});
