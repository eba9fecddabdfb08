import 'reflect-metadata';
import { setImmediate } from 'node:timers/promises';
import { Injectable, type Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { ENGINE } from '../common/tokens.js';
import type { Engine } from '../engine/engine.interface.js';
import { ErrorCode } from '../errors/minibatch.error.js';
import type { Executor } from '../executors/executor.interface.js';
import { MinibatchModule } from '../minibatch.module.js';
import type { StoreChoice } from '../minibatch.module-definition.js';
import { memoryStore } from '../storage/memory/index.js';
import { STORES } from '../storage/stores.spec.support.js';
import type { ConsumerKey, StreamStore } from '../storage/stream-store.interface.js';
import { StatusService } from '../status/status.service.js';
import { StreamService } from '../streams/stream.service.js';
import { MinibatchHarness } from '../testing/minibatch.harness.js';
import { MinibatchTestingModule } from '../testing/minibatch-testing.module.js';
import { wrapStore } from '../testing/wrapped-store.js';
import type { Window } from '../windows/window.js';
import { ConsumerRegistry } from './consumer.registry.js';
import { Streaming } from './streaming.decorator.js';

const seen: unknown[] = [];

@Injectable()
class Orders {
  @Streaming(/^orders\./, { size: 1 })
  handle(window: Window) {
    seen.push([window.stream, ...window.data]);
  }
}

const closing: (() => Promise<void>)[] = [];

async function boot(store: StoreChoice, ...providers: Type[]) {
  const module = await Test.createTestingModule({
    imports: [MinibatchTestingModule.forRoot({ store })],
    providers,
  }).compile();
  closing.push(() => module.close());
  const streams = module.get(StreamService);
  return { module, streams, harness: module.get(MinibatchHarness), engine: module.get<Engine>(ENGINE) };
}

const streamsOf = (engine: Engine) => engine.status().map(({ key, label }) => `${key.stream}/${key.group} ${label}`);

/** Lets time pass until it is so; the test's own time limit ends it. */
async function until(harness: MinibatchHarness, isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) {
    await harness.advance('1s');
    await setImmediate();
  }
}

afterEach(async () => {
  seen.length = 0;
  for (const close of closing.splice(0).toReversed()) await close();
});

describe.each(STORES)('a consumer with a pattern, on %s', (_, open) => {
  async function bootOn(...providers: Type[]) {
    const { store, dispose } = await open();
    closing.push(dispose);
    return { store, ...(await boot(store, ...providers)) };
  }

  it('consumes the streams that are there at the start, and those that are made later', async () => {
    const { module, streams, harness, engine } = await bootOn(Orders);
    await streams.stream('orders.eu').append(1);
    await streams.stream('flights').append(0);
    await module.init();
    await until(harness, () => seen.length === 1);
    expect(seen).toEqual([['orders.eu', 1]]);

    await streams.stream('orders.us').append(2);
    await until(harness, () => seen.length === 2);
    expect(seen[1]).toEqual(['orders.us', 2]);
    expect(streamsOf(engine)).toEqual(['orders.eu/default Orders.handle', 'orders.us/default Orders.handle']);
    const { streams: reported } = await module.get(StatusService).snapshot();
    expect(reported.find(({ name }) => name === 'orders.us')?.consumers[0]?.local?.label).toBe('Orders.handle');
  });

  it('goes with its stream, and comes back with it', async () => {
    const { module, store, streams, harness, engine } = await bootOn(Orders);
    await streams.stream('orders.eu').append(1);
    await module.init();
    await until(harness, () => seen.length === 1);
    // As an operator does, in another process.
    await store.dropStream('orders.eu');
    await until(harness, () => streamsOf(engine).length === 0);
    expect(await streams.streams()).toEqual([]);

    await streams.stream('orders.eu').append(2);
    await until(harness, () => seen.length === 2);
    expect(seen[1]).toEqual(['orders.eu', 2]);
  });
});

describe.each(STORES)('a consumer with a pattern, on %s', (_, open) => {
  it('does not make a stream again that was dropped after the look that found it', async () => {
    const { store, dispose } = await open();
    closing.push(dispose);
    const asked: string[] = [];
    let looks = 0;
    const dropping = wrapStore(store, async (call) => {
      if (call.method === 'registerGroup') asked.push((call.args[0] as ConsumerKey).stream);
      const answer = await call.proceed();
      if (call.method === 'listStreams' && call.args[0] === undefined) {
        looks += 1;
        if (looks === 1) await store.dropStream('orders.eu');
      }
      return answer;
    });
    const { module, streams, harness, engine } = await boot(dropping, Orders);
    await streams.stream('orders.eu').append(1);
    await module.init();
    await until(harness, () => looks > 2 && streamsOf(engine).length === 0);
    expect(asked).toEqual([]);
    expect(await streams.streams()).toEqual([]);

    await streams.stream('orders.eu').append(2);
    await until(harness, () => seen.length === 1);
    expect(seen).toEqual([['orders.eu', 2]]);
  });

  it('consumes all partitions of a stream, those too that it is given later, and goes with all of them', async () => {
    const { store, dispose } = await open();
    closing.push(dispose);
    await store.open();
    await store.ensureStream('orders.eu', { partitions: 2 });
    const { module, streams, harness, engine } = await boot(store, Orders);
    const stream = streams.stream('orders.eu');
    const append = (from: number) =>
      Promise.all(Array.from({ length: 20 }, (_, n) => stream.append(from + n, { key: `k${n}` })));
    await append(0);
    await module.init();
    const partitions = () =>
      engine
        .status()
        .map(({ key }) => key.partition)
        .toSorted();
    await until(harness, () => seen.length === 20);
    expect(partitions()).toEqual([0, 1]);

    await stream.grow(4);
    await until(harness, () => partitions().length === 4);
    await append(20);
    await until(harness, () => seen.length === 40);
    expect(new Set(seen.map(String)).size).toBe(40);

    await store.dropStream('orders.eu');
    await until(harness, () => partitions().length === 0);
    expect(await streams.streams()).toEqual([]);
  });
});

/** Which group of the stream was registered, and which consumer got its lease, in this order. */
function watchGroups(store: StreamStore, stream: string) {
  const steps: string[] = [];
  const watched = wrapStore(store, async (call) => {
    const answer = await call.proceed();
    const key = call.args[0] as ConsumerKey;
    if (call.method === 'registerGroup' && key.stream === stream) steps.push('register');
    if (call.method === 'acquireLease' && key.stream === stream) steps.push('acquire');
    return answer;
  });
  return { steps, watched };
}

describe.each(STORES)('groups of one stream in an application, on %s', (_, open) => {
  const got: Record<string, unknown[]> = {};
  const take = (group: string, { data }: Window) => void (got[group] ??= []).push(...data);

  @Injectable()
  class Billing {
    @Streaming('orders.eu', { size: 1, group: 'billing' })
    handle(window: Window) {
      take('billing', window);
    }
  }
  @Injectable()
  class Audit {
    @Streaming(/^orders\./, { size: 1, group: 'audit' })
    handle(window: Window) {
      take('audit', window);
    }
  }
  @Injectable()
  class Everything {
    @Streaming(/./s, { size: 1, group: 'everything' })
    handle(window: Window) {
      take('everything', window);
    }
  }

  afterEach(() => {
    for (const group of Object.keys(got)) delete got[group];
  });

  async function bootOn(...providers: Type[]) {
    const { store, dispose } = await open();
    closing.push(dispose);
    const { steps, watched } = watchGroups(store, 'orders.eu');
    return { steps, ...(await boot(watched, ...providers)) };
  }

  it('are all registered before one of them begins: by name and by a pattern, at the first start', async () => {
    const { module, steps, streams, harness } = await bootOn(Billing, Audit);
    for (const n of [1, 2, 3]) await streams.stream('orders.eu').append(n);
    await module.init();
    await until(harness, () => got.billing?.length === 3 && got.audit?.length === 3);
    expect(steps).toEqual(['register', 'register', 'acquire', 'acquire']);
  });

  it('are all registered before one of them begins: by two patterns, for a stream that is made later', async () => {
    const { module, steps, streams, harness } = await bootOn(Audit, Everything);
    await module.init();
    for (const n of [1, 2, 3]) await streams.stream('orders.eu').append(n);
    await until(harness, () => got.audit?.length === 3 && got.everything?.length === 3);
    expect(steps).toEqual(['register', 'register', 'acquire', 'acquire']);
  });

  it('are all registered before one of them begins: by a pattern, and by a consumer that is started at run time', async () => {
    const { module, steps, streams, harness } = await bootOn(Audit);
    await module.init();
    const stream = streams.stream<number>('orders.eu');
    for (const n of [1, 2, 3]) await stream.append(n);
    const consumer = await stream.consume({ size: 1, group: 'billing' }, (window) => take('billing', window as Window));
    await until(harness, () => got.billing?.length === 3 && got.audit?.length === 3);
    expect(steps).toEqual(['register', 'register', 'acquire', 'acquire']);
    await consumer.stop();
  });
});

describe('a consumer with a pattern', () => {
  it('leaves a stream to the consumer of its group that names it, and shares it with other groups', async () => {
    @Injectable()
    class Named {
      @Streaming('orders.eu', { size: 1 })
      handle() {}
    }
    @Injectable()
    class Audit {
      @Streaming(/orders/, { size: 1, group: 'audit' })
      handle() {}
    }
    const { module, streams, harness, engine } = await boot(memoryStore(), Orders, Named, Audit);
    await streams.stream('orders.us').append(1);
    await module.init();
    await until(harness, () => streamsOf(engine).length === 4);
    expect(streamsOf(engine).toSorted()).toEqual([
      'orders.eu/audit Audit.handle',
      'orders.eu/default Named.handle',
      'orders.us/audit Audit.handle',
      'orders.us/default Orders.handle',
    ]);
    const registry = module.get(ConsumerRegistry);
    expect(registry.knows('orders.x', 'default')).toBe(true);
    expect(registry.knows('orders.x', 'other')).toBe(false);
    expect(registry.knows('flights')).toBe(false);
  });

  it('is refused where the pattern can only be a mistake', () => {
    for (const pattern of [/orders/g, /orders/y, /.*/, /^/, /^(?!sys)/]) {
      expect(() => Streaming(pattern, { size: 1 })({}, 'handle', { value: () => undefined })).toThrow(
        expect.objectContaining({ code: ErrorCode.InvalidOptions }),
      );
    }
  });

  it('runs on the event loop alone', async () => {
    const executor: Executor = { name: 'elsewhere', run: () => Promise.reject(new Error('unused')) };
    @Injectable()
    class Elsewhere {
      @Streaming(/^orders\./, { size: 1, executor })
      handle() {}
    }
    const module = await Test.createTestingModule({
      imports: [MinibatchModule.forRoot({ store: memoryStore() })],
      providers: [Elsewhere],
    }).compile();
    closing.push(() => module.close());
    await expect(module.init()).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
  });
});
