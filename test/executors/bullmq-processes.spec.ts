import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Injectable } from '@nestjs/common';
import { StatusService, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { bullmq } from 'nestjs-minibatch/bullmq';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';
import { boot, closeApps } from '../support/executor-apps.js';
import { repository, temporaryFolder } from '../support/workspace.js';

const LOCK = 1_000;
let redis: Awaited<ReturnType<typeof startRedis>>;
let tests = 0;
/** Of this test alone. */
let prefix: string;
const children: ChildProcess[] = [];

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis?.stop());
beforeEach(() => {
  prefix = `test${(tests += 1)}`;
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await closeApps();
});

function startProcess(role: 'worker' | 'emitter', env: Record<string, string> = {}): ChildProcess {
  const program = repository('test/fixtures/executors/bullmq-process.mjs');
  const child = spawn(process.execPath, [program], {
    env: { ...process.env, MINIBATCH_ROLE: role, REDIS_URL: redis.url, PREFIX: prefix, LOCK: String(LOCK), ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  return child;
}

describe('processes with bullmq', () => {
  it('lose nothing of what killed workers had, and commit each window once', async () => {
    const taken: unknown[] = [];
    @Injectable()
    class Orders {
      @Streaming('orders', {
        size: 10,
        workers: 12,
        retry: { backoff: 50, maxBackoff: 200 },
        sink: { put: (result: unknown) => void taken.push(result) },
      })
      sum() {}
    }
    const workers = [startProcess('worker'), startProcess('worker'), startProcess('worker')];
    const app = await boot({ executor: bullmq({ connection: redis.url, prefix, lock: LOCK }) }, [Orders]);
    const local = async () => (await app.get(StatusService).snapshot()).streams[0]?.consumers[0]?.local;
    const ids = Array.from({ length: 2_000 }, (_, n) => n);
    await app.get(StreamService).appendMany('orders', ids);
    for (let kills = 1; kills <= 3; kills += 1) {
      await vi.waitFor(() => expect(taken.length).toBeGreaterThanOrEqual(kills * 40), 60_000);
      workers.shift()?.kill('SIGKILL');
      workers.push(startProcess('worker'));
    }
    await vi.waitFor(async () => expect(await local()).toMatchObject({ committedMessages: 2_000 }), 60_000);
    expect(taken).toHaveLength(200);
    expect(taken.flat().toSorted((a, b) => Number(a) - Number(b))).toEqual(ids);
    expect(await local()).toMatchObject({ failures: 0, deadLettered: 0, committedWindows: 200 });
  }, 180_000);

  it('let the next emitter take what workers had of one that was killed', async () => {
    const folder = await temporaryFolder();
    const ends: (() => void)[] = [];
    const seen: unknown[] = [];
    @Injectable()
    class Orders {
      @Streaming('orders', { size: 1, group: 'default' })
      sum({ data }: Window) {
        seen.push(...data);
        return new Promise((resolve) => ends.push(() => resolve(data)));
      }
    }
    await boot({ role: 'worker', executor: bullmq({ connection: redis.url, prefix, lock: LOCK, concurrency: 4 }) }, [
      Orders,
    ]);
    const env = { STORE: folder.path, SIZE: '1' };
    const first = startProcess('emitter', { ...env, APPEND: '4' });
    await vi.waitFor(() => expect(ends).toHaveLength(4), 60_000);
    first.kill('SIGKILL');
    await once(first, 'close');
    // Two end while there is no emitter.
    ends.splice(0, 2).forEach((end) => end());
    const next = startProcess('emitter', env);
    let text = '';
    next.stdout?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    await vi.waitFor(() => expect(text.split('\n').filter(Boolean)).toHaveLength(2), 60_000);
    for (const end of ends) end();
    await vi.waitFor(
      () => expect(text.split('\n').filter(Boolean).toSorted()).toEqual(['[0]', '[1]', '[2]', '[3]']),
      60_000,
    );
    expect(seen.toSorted()).toEqual([0, 1, 2, 3]);
    next.kill('SIGKILL');
    await once(next, 'close');
    await folder.dispose();
  }, 120_000);
});
