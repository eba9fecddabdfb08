import 'reflect-metadata';
import { Injectable, Logger, type LoggerService, Module, type ModuleMetadata } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeEngine } from './consumers/fake-engine.spec.support.js';
import { Streaming } from './consumers/streaming.decorator.js';
import { ErrorCode, MinibatchError } from './errors/minibatch.error.js';
import { CLOCK, ENGINE } from './common/tokens.js';
import { MinibatchModule } from './minibatch.module.js';
import type { MinibatchModuleExtras } from './minibatch.module-definition.js';
import type { MinibatchModuleOptions } from './minibatch.options.js';
import { MinibatchRunner } from './minibatch.runner.js';
import type { Source } from './sources/source.interface.js';
import { StreamSource } from './sources/stream-source.decorator.js';
import { MemoryStreamStore } from './storage/memory/index.js';
import type { StreamStore } from './storage/stream-store.interface.js';
import { StreamService } from './streams/stream.service.js';
import { VirtualClock } from './testing/virtual-clock.js';

class Lines implements LoggerService {
  readonly all: string[] = [];
  log(message: string, context?: string) {
    if (context === 'Minibatch') this.all.push(message);
  }
  warn(message: string, context?: string) {
    if (context === 'Minibatch') this.all.push(`warn: ${message}`);
  }
  error(message: unknown) {
    this.all.push(`error: ${String(message)}`);
  }
}

@Injectable()
class Report {
  @Streaming('flights', { size: 2 })
  summarize() {}
}

const events: string[] = [];

@Injectable()
@StreamSource('flights')
class Feed implements Source {
  async stream(_target: unknown, signal: AbortSignal) {
    events.push('source started');
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    events.push('source stopped');
  }
}

/** Writes down when the engine and the store are told what. */
class LoggingEngine extends FakeEngine {
  override async start() {
    events.push('engine started');
  }
  override async stop(timeout: number) {
    events.push(`engine stopped within ${timeout}`);
    return this.result;
  }
}
class LoggingStore extends MemoryStreamStore {
  override async open() {
    events.push('store opened');
  }
  override async close() {
    events.push('store closed');
  }
}

interface Setting {
  readonly store?: StreamStore;
  readonly options?: MinibatchModuleOptions & MinibatchModuleExtras;
  readonly engine?: FakeEngine;
}

async function create(metadata: ModuleMetadata, { store = new LoggingStore(), options, engine }: Setting = {}) {
  const clock = new VirtualClock();
  const lines = new Lines();
  const testing = await Test.createTestingModule({
    ...metadata,
    imports: [MinibatchModule.forRoot({ store, ...options }), ...(metadata.imports ?? [])],
  })
    .overrideProvider(ENGINE)
    .useValue(engine ?? new LoggingEngine())
    .overrideProvider(CLOCK)
    .useValue(clock)
    .setLogger(lines)
    .compile();
  return { app: testing, lines: lines.all, clock };
}

beforeEach(() => void events.splice(0));
afterEach(() => Logger.overrideLogger(false));

describe('the life cycle', () => {
  it('opens, starts consumers before sources, and ends in the opposite order', async () => {
    @Injectable()
    class User {
      constructor(private readonly streams: StreamService) {}
      async onModuleInit() {
        await this.streams.append('flights', 1);
        events.push('user init');
      }
      onApplicationBootstrap() {
        events.push('user bootstrap');
      }
      onModuleDestroy() {
        events.push('user destroy');
      }
      async beforeApplicationShutdown() {
        await this.streams.append('flights', 2);
        events.push('user before shutdown');
      }
      async onApplicationShutdown() {
        await this.streams.append('flights', 3);
        events.push('user shutdown');
      }
    }
    const { app } = await create({ providers: [Report, Feed, User] });
    await app.init();
    await app.close();
    expect(events).toEqual([
      'store opened',
      'user init',
      'engine started',
      'source started',
      'user bootstrap',
      'user destroy',
      'source stopped',
      'user before shutdown',
      'engine stopped within 5000',
      'user shutdown',
      'store closed',
    ]);
    await expect(app.get(StreamService).append('flights', 4)).rejects.toMatchObject({ code: ErrorCode.ShuttingDown });
  });

  it('starts nothing on its own with autoStart: false', async () => {
    const { app, lines } = await create({ providers: [Report, Feed] }, { options: { autoStart: false } });
    await app.init();
    expect(events).toEqual(['store opened']);
    expect(lines).toContain('autoStart is false: nothing runs until MinibatchRunner.start() is called');
    const runner = app.get(MinibatchRunner);
    await Promise.all([runner.start(), runner.start()]);
    expect(events.slice(1)).toEqual(['engine started', 'source started']);
    await app.close();
    expect(lines.filter((line) => line.includes('SIGTERM'))).toEqual([]);
  });

  it('ends at once where nothing was started', async () => {
    const { app } = await create({ providers: [Report] }, { options: { autoStart: false } });
    await app.init();
    await app.close();
    expect(events).toEqual(['store opened', 'store closed']);
  });

  it('says how the drain went', async () => {
    const engine = new LoggingEngine();
    engine.result = { drained: 3, abandoned: 0 };
    const good = await create({ providers: [Report] }, { engine, options: { shutdownTimeout: '5s' } });
    await good.app.init();
    await good.app.close();
    expect(events).toContain('engine stopped within 5000');
    expect(good.lines.at(-1)).toBe('stopped: 3 windows drained, 0 abandoned');

    engine.result = { drained: 1, abandoned: 2 };
    const bad = await create({ providers: [Report] }, { engine });
    await bad.app.init();
    await bad.app.close();
    expect(bad.lines.at(-1)).toBe(
      'warn: stopped: 1 window drained, 2 abandoned; they will be redelivered after the next start',
    );
  });

  it('starts without a store that can’t be reached, and with none that is broken', async () => {
    const failing = (code: ErrorCode) => {
      const store = new LoggingStore();
      vi.spyOn(store, 'open').mockRejectedValueOnce(new MinibatchError(code, 'no'));
      return store;
    };
    const later = await create({ providers: [Report] }, { store: failing(ErrorCode.StoreUnavailable) });
    await later.app.init();
    expect(later.lines).toContainEqual(expect.stringContaining('warn: starting without the store (memory), retrying'));
    await expect(later.app.get(StreamService).append('flights', 1)).resolves.toHaveProperty('id');
    await later.app.close();

    const never = await create({}, { store: failing(ErrorCode.SchemaTooNew) });
    await expect(never.app.init()).rejects.toMatchObject({ code: ErrorCode.SchemaTooNew });
  });
});

describe('a store that does not answer', () => {
  class SilentStore extends LoggingStore {
    answer!: { now: () => void; fail: (error: Error) => void };
    override open() {
      return new Promise<void>((now, fail) => (this.answer = { now, fail }));
    }
  }
  const boot = async (store: StreamStore) => {
    const created = await create({ providers: [Report] }, { store });
    let booted = false;
    const init = created.app.init().then(() => (booted = true));
    await created.clock.advance(4999);
    expect(booted).toBe(false);
    await created.clock.advance(1);
    await init;
    return created;
  };

  it('keeps nobody from starting, and is used when it does', async () => {
    const store = new SilentStore();
    const { app, lines } = await boot(store);
    expect(lines).toContain('warn: starting without the store (memory), which did not answer within 5000 ms');
    const appended = app.get(StreamService).append('flights', 1);
    store.answer.now();
    await expect(appended).resolves.toHaveProperty('id');
    await app.close();
  });

  it('is told of when it says later that it will never work', async () => {
    const store = new SilentStore();
    const { app, lines } = await boot(store);
    store.answer.fail(new MinibatchError(ErrorCode.SchemaTooNew, 'too new'));
    await vi.waitUntil(() => lines.some((line) => line.startsWith("error: the store (memory) can't be used: too new")));
    await app.close();
  });
});

describe('a store that does not close', () => {
  it('keeps the application from its end for three seconds after the shutdown timeout at most', async () => {
    class OpenStore extends LoggingStore {
      override close() {
        return new Promise<void>(() => undefined);
      }
    }
    const { app, clock, lines } = await create({}, { store: new OpenStore(), options: { shutdownTimeout: '1s' } });
    await app.init();
    let isClosed = false;
    const closing = app.close().then(() => (isClosed = true));
    await clock.advance(3_999);
    expect(isClosed).toBe(false);
    await clock.advance(1);
    await closing;
    expect(lines.at(-1)).toMatch(/^warn: the store \(memory\) did not close within 4000 ms/);
  });
});

describe('the boot log', () => {
  it('has a line for each binding', async () => {
    @Injectable()
    class Other {
      @Streaming('flights', { interval: '5s', group: 'other' })
      other() {}
    }
    const { app, lines } = await create(
      { providers: [Report, Other, Feed] },
      { options: { consumers: ['Report.summarize'] } },
    );
    await app.init();
    expect(lines).toEqual([
      "'flights' → Report.summarize: CountWindow, size 2",
      "'flights' → Other.other: does not run in this process",
      "Feed → 'flights'",
    ]);
    await app.close();
  });

  it('warns of streams with messages and no consumer', async () => {
    const store = new LoggingStore();
    const message = { data: 1, created: new Date() };
    for (const stream of ['flights', 'lost', 'empty']) await store.ensureStream(stream);
    await store.append([
      { ...message, stream: 'lost' },
      { ...message, stream: 'flights' },
    ]);
    const { app, lines } = await create({ providers: [Report] }, { store });
    await app.init();
    expect(lines.filter((line) => line.startsWith('warn'))).toEqual(["warn: 'lost' has 1 message and no consumer"]);
    await app.close();
  });

  it('warns of groups that no process serves, a lease time after the start', async () => {
    const store = new LoggingStore();
    const message = { stream: 'flights', data: 1, created: new Date() };
    const key = (group: string) => ({ stream: 'flights', group, partition: 0 });
    for (const group of ['default', 'free', 'held', 'left', 'taken', 'served']) await store.registerGroup(key(group));
    await store.append([message, message]);
    const hold = async (group: string) => {
      const [state] = await store.readLeases([key(group)]);
      const owner = { id: group, host: 'elsewhere', bootId: '', pid: 1, startTime: '' };
      return store.acquireLease(key(group), owner, state!);
    };
    await hold('left');
    const served = await hold('served');
    const { app, lines, clock } = await create({ providers: [Report] }, { store, options: { leaseTime: 9_000 } });
    await app.init();
    const warnings = () => lines.filter((line) => line.includes('no process consumes'));
    await clock.advance(8_000);
    await hold('taken');
    await store.renewLeases([served!]);
    expect(warnings()).toEqual([]);
    await clock.advance(30_000);
    expect(warnings()).toEqual(
      ['free', 'held', 'left'].map(
        (group) =>
          `warn: 'flights': no process consumes group '${group}', with 2 messages waiting: start one, or remove the group by ` +
          `streams.removeGroup('flights', '${group}')`,
      ),
    );
    await app.close();
  });

  it('warns if nothing listens for SIGTERM, a second after the start', async () => {
    const listeners = process.listeners('SIGTERM');
    for (const listener of listeners) process.off('SIGTERM', listener);
    const listening = () => undefined;
    try {
      const { app, lines, clock } = await create({ providers: [Report] });
      await app.init();
      expect(lines).toHaveLength(1);
      await clock.advance(1000);
      expect(lines[1]).toContain('warn: nothing listens for SIGTERM');
      const other = await create({ providers: [Report] });
      await other.app.init();
      process.on('SIGTERM', listening);
      await other.clock.advance(1000);
      expect(other.lines).toHaveLength(1);
      await Promise.all([app.close(), other.app.close()]);
    } finally {
      process.off('SIGTERM', listening);
      for (const listener of listeners) process.on('SIGTERM', listener);
    }
  });
});

describe('a second forRoot', () => {
  it('is a boot error', async () => {
    @Module({ imports: [MinibatchModule.forRoot({ store: new LoggingStore() })] })
    class Other {}
    const { app } = await create({ imports: [Other] });
    await expect(app.init()).rejects.toMatchObject({
      code: ErrorCode.DuplicateModule,
      message: expect.stringContaining(
        'MinibatchModule.forRoot() is imported 2 times: import it once, in the root module',
      ) as string,
    });
  });

  it('is none if it is the same', async () => {
    const once = MinibatchModule.forRoot({ store: new LoggingStore() });
    @Module({ imports: [once] })
    class Other {}
    const testing = await Test.createTestingModule({ imports: [once, Other] })
      .overrideProvider(ENGINE)
      .useValue(new LoggingEngine())
      .compile();
    await testing.init();
    await testing.close();
  });
});
