import 'reflect-metadata';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type INestApplicationContext, Injectable, type OnModuleInit, type Provider } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { openDatabase, type TestDatabase } from '../../../test/support/mongo-server.js';
import { Streaming } from './consumers/streaming.decorator.js';
import { ConsumerState, type Engine } from './engine/engine.interface.js';
import { ErrorCode } from './errors/minibatch.error.js';
import { ENGINE } from './common/tokens.js';
import { MinibatchModule } from './minibatch.module.js';
import type { MinibatchModuleOptions } from './minibatch.options.js';
import { MinibatchRunner } from './minibatch.runner.js';
import type { Source } from './sources/source.interface.js';
import { StreamSource } from './sources/stream-source.decorator.js';
import { LmdbStreamStore } from './storage/lmdb/lmdb.store.js';
import { MemoryStreamStore } from './storage/memory/index.js';
import { MongooseStreamStore } from './storage/mongoose/index.js';
import type { StreamStore } from './storage/stream-store.interface.js';
import { StreamService } from './streams/stream.service.js';
import { type StoreCall, wrapStore } from './testing/wrapped-store.js';

const live = new Set<AbortSignal>();

@Injectable()
class Report {
  @Streaming('flights', { size: 1 })
  summarize() {}
}

@Injectable()
@StreamSource('flights')
class Feed implements Source {
  async stream(_target: unknown, signal: AbortSignal) {
    live.add(signal);
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    live.delete(signal);
  }
}

/** Says what reaches the store, and can hold it up. */
class Watched {
  readonly calls: string[] = [];
  /** Calls that have not been answered. */
  underWay = 0;
  private readonly holds = new Map<string, Promise<void>>();
  readonly store: StreamStore;

  constructor(private readonly inner: StreamStore) {
    this.store = wrapStore(inner, (call) => this.around(call));
  }

  hold(method: string): () => void {
    let release = (): void => undefined;
    this.holds.set(method, new Promise((resolve) => (release = resolve)));
    return release;
  }

  /** True if it was opened and not closed since. */
  get isOpen(): boolean {
    return this.calls.lastIndexOf('open') > this.calls.lastIndexOf('close');
  }

  get name(): string {
    return this.inner.name;
  }

  private async around({ method, proceed }: StoreCall): Promise<unknown> {
    this.underWay += 1;
    try {
      await this.holds.get(method);
      const answer = await proceed();
      this.calls.push(method);
      return answer;
    } finally {
      this.underWay -= 1;
    }
  }
}

const turns = async (count = 50) => {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve));
};

describe.each(['memory', 'LMDB', 'MongoDB'])('an application that is closed, on %s', (kind) => {
  let path: string;
  let database: TestDatabase | undefined;
  let watched: Watched;
  let apps: INestApplicationContext[];

  beforeAll(async () => {
    path = await mkdtemp(join(tmpdir(), 'minibatch-closing-'));
  });
  afterAll(() => rm(path, { recursive: true }));
  const createStore = async (): Promise<StreamStore> => {
    if (kind === 'LMDB') return new LmdbStreamStore({ path });
    if (kind === 'memory') return new MemoryStreamStore();
    database = openDatabase();
    return new MongooseStreamStore(await database.connect());
  };
  beforeEach(async () => {
    watched = new Watched(await createStore());
    live.clear();
    apps = [];
  });
  afterEach(async () => {
    for (const app of apps) await app.close();
    await database?.dispose();
  });

  const create = async (
    { http = true, providers = [] }: { readonly http?: boolean; readonly providers?: Provider[] } = {},
    options: MinibatchModuleOptions = {},
  ) => {
    const testing = await Test.createTestingModule({
      imports: [MinibatchModule.forRoot({ store: watched.store, ...options })],
      providers: [Report, Feed, ...providers],
    })
      .setLogger({ log() {}, warn() {}, error() {} })
      .compile();
    const app = http ? testing.createNestApplication() : testing;
    apps.push(app);
    return app;
  };
  const expectDead = async (app: INestApplicationContext) => {
    // A store that opens late, on a disk, is closed again when it is open.
    await vi.waitUntil(() => watched.underWay === 0, { timeout: 50_000, interval: 5 });
    await turns();
    await vi.waitUntil(() => watched.underWay === 0, { timeout: 50_000, interval: 5 });
    await turns();
    expect(live.size).toBe(0);
    expect(watched.isOpen).toBe(false);
    const calls = watched.calls.length;
    const running = app
      .get<Engine>(ENGINE)
      .status()
      .filter(({ state }) => state !== ConsumerState.Stopped);
    expect(running).toEqual([]);
    await expect(app.get(StreamService).append('flights', 1)).rejects.toMatchObject({ code: ErrorCode.ShuttingDown });
    await turns();
    expect(watched.calls.length).toBe(calls);
  };

  for (const http of [true, false]) {
    it(`stays closed when it was closed while it started${http ? ', with HTTP' : ''}`, async () => {
      const app = await create({ http });
      await Promise.all([app.init(), app.close()]);
      await expectDead(app);
    });

    it(`stays closed when it was closed before it started${http ? ', with HTTP' : ''}`, async () => {
      const app = await create({ http });
      await app.close();
      await app.init();
      await expectDead(app);
    });
  }

  for (const method of ['open', 'ensureStream', 'registerGroup', 'listStreams']) {
    it(`ends a start that waits for the store's ${method}()`, async () => {
      const release = watched.hold(method);
      const app = await create();
      const init = app.init();
      await turns();
      const closing = app.close();
      await turns();
      release();
      await Promise.all([init, closing]);
      await expectDead(app);
    });
  }

  it('gives back what was opened when another provider fails to start', async () => {
    @Injectable()
    class Broken implements OnModuleInit {
      constructor(readonly streams: StreamService) {}
      async onModuleInit() {
        await this.streams.append('flights', 0);
        throw new Error('no');
      }
    }
    const app = await create({ providers: [Broken] });
    await expect(app.init()).rejects.toThrow('no');
    await app.close();
    await expectDead(app);
  });

  it('starts nothing by hand any more', async () => {
    const app = await create({}, { autoStart: false });
    await app.init();
    await app.close();
    await expect(app.get(MinibatchRunner).start()).rejects.toMatchObject({ code: ErrorCode.ShuttingDown });
    await expectDead(app);
  });

  it('takes no source while it closes', async () => {
    const app = await create();
    await app.init();
    const stream = app.get(StreamService).stream('flights');
    const closing = app.close();
    for (let i = 0; i < 200; i += 1) {
      try {
        stream.attach(new Feed(), { name: `late ${i}` });
      } catch {
        break;
      }
      await turns(1);
    }
    await closing;
    await expectDead(app);
  });
});
