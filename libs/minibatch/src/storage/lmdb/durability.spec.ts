import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, it } from 'vitest';
import { DURABLE } from '../durability.spec.support.js';
import type { StreamStore } from '../stream-store.interface.js';

const REMOTE = fileURLToPath(new URL('../../../../../test/fixtures/lmdb/remote-store.mjs', import.meta.url));

interface Answer {
  readonly result?: unknown;
  readonly error?: string;
}

/** A store in a process of its own, which can be killed and started again. It imports the built package. */
class RemoteStore {
  private process: ChildProcess | undefined;

  constructor(private readonly path: string) {}

  readonly store = new Proxy({} as StreamStore, {
    get: (_, method) => (method === 'then' ? undefined : (...args: unknown[]) => this.call(String(method), args)),
  });

  async start(): Promise<void> {
    this.process = fork(REMOTE, [this.path], { serialization: 'advanced' });
    await this.answer();
  }

  async kill(): Promise<void> {
    const child = this.process;
    this.process = undefined;
    if (!child) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  private async call(method: string, args: readonly unknown[]): Promise<unknown> {
    const answer = this.answer();
    this.process?.send({ method, args });
    const { result, error } = await answer;
    if (error !== undefined) throw new Error(error);
    return result;
  }

  /** The next one; calls are made one after the other. */
  private async answer(): Promise<Answer> {
    const child = this.process;
    if (!child) throw new Error('The process of the store does not run');
    const ended = new AbortController();
    const died = once(child, 'exit', { signal: ended.signal }).then(() => {
      throw new Error('The process of the store has ended');
    });
    try {
      const answered = once(child, 'message', { signal: ended.signal }).then(([answer]) => answer as Answer);
      return await Promise.race([answered, died]);
    } finally {
      died.catch(() => undefined);
      ended.abort();
    }
  }
}

describe('what LMDB has acknowledged is there after the process was killed', () => {
  let path: string;
  let remote: RemoteStore;
  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'minibatch-lmdb-'));
    remote = new RemoteStore(path);
    await remote.start();
  });
  afterEach(async () => {
    await remote.kill();
    await rm(path, { recursive: true, force: true });
  });

  it.each(DURABLE)('%s', { timeout: 180_000 }, async (_, run) => {
    await run(remote.store, async () => {
      await remote.kill();
      await remote.start();
    });
  });
});
