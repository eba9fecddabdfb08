import { Controller, Inject, Injectable } from '@nestjs/common';
import type { INestMicroservice } from '@nestjs/common';
import {
  ClientProxy,
  ClientProxyFactory,
  ClientsModule,
  EventPattern,
  MessagePattern,
  type MicroserviceOptions,
  Payload,
  RpcException,
  Transport,
} from '@nestjs/microservices';
import { Test, type TestingModule } from '@nestjs/testing';
import { Decimal128, Long } from 'bson';
import {
  ErrorCode,
  memoryStore,
  MinibatchModule,
  StatusService,
  Streaming,
  StreamService,
  type Window,
} from 'nestjs-minibatch';
import { ClientProxySink, type ClientProxySinkOptions } from 'nestjs-minibatch/microservices';
import { NEVER, Observable } from 'rxjs';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort } from '../../scripts/servers/free-ports.mjs';
import type { OwnServer } from '../../scripts/servers/own-server.mjs';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';
import { closeAll, later, Log, SOON, start } from '../e2e/support/applications.js';

afterEach(closeAll);

interface Report {
  readonly id: string;
  readonly rows: readonly number[];
}

/** What the other side got, and what it does with it. */
const other = {
  got: [] as unknown[],
  reply: ((): unknown => 'stored') as (data: unknown) => unknown,
};

@Controller()
class Receiver {
  @EventPattern('report.event')
  event(@Payload() data: unknown): void {
    other.got.push(data);
  }

  @MessagePattern('report.request')
  request(@Payload() data: unknown): unknown {
    const reply = other.reply(data);
    other.got.push(data);
    return reply;
  }
}

let redis: OwnServer;
let tcpPort: number;
beforeAll(async () => {
  redis = await startRedis();
  tcpPort = await freePort();
});
afterAll(() => redis.stop());

const TCP = { name: 'TCP', options: () => ({ transport: Transport.TCP, options: { port: tcpPort } }) as const };
const REDIS = {
  name: 'Redis',
  options: () =>
    ({
      transport: Transport.REDIS,
      options: { host: '127.0.0.1', port: redis.port, retryAttempts: 1000, retryDelay: 50 },
    }) as const,
};
type Kind = typeof TCP | typeof REDIS;

/** The other application. */
async function receive(kind: Kind): Promise<INestMicroservice> {
  other.got = [];
  other.reply = () => 'stored';
  return await listen(kind);
}

async function listen(kind: Kind): Promise<INestMicroservice> {
  const app = (
    await Test.createTestingModule({ controllers: [Receiver] })
      .setLogger(new Log())
      .compile()
  ).createNestMicroservice<MicroserviceOptions>(kind.options());
  // A test may have closed it.
  later(() => app.close().catch(() => undefined));
  await app.listen();
  return app;
}

/** The application whose results are sent. */
async function send(
  kind: Kind,
  options: Omit<ClientProxySinkOptions<never>, 'client'>,
  size = 2,
): Promise<TestingModule> {
  @Injectable()
  class Reports extends ClientProxySink<never> {
    constructor(@Inject('REPORTS') client: ClientProxy) {
      super({ client, ...options });
    }
  }

  class Consumer {
    @Streaming<number>('rows', { size, sink: Reports as never })
    report({ data }: Window<number>): unknown {
      return options.each ? data : { rows: data };
    }
  }

  return await start({
    imports: [
      MinibatchModule.forRoot({ store: memoryStore(), retry: { backoff: 20, maxBackoff: 100 } }),
      ClientsModule.register([{ name: 'REPORTS', ...kind.options() }]),
    ],
    providers: [Consumer, Reports],
  });
}

const append = async (app: TestingModule, rows: readonly number[]) => {
  await app.get(StreamService, { strict: false }).stream<number>('rows').appendMany(rows);
};
const consumerOf = async (app: TestingModule) => {
  const { streams } = await app.get(StatusService, { strict: false }).snapshot();
  return streams.find(({ name }) => name === 'rows')?.consumers[0]?.local;
};
const committed = async (app: TestingModule) => (await consumerOf(app))?.committedMessages;
/** What a window is told to be, so that the other side can tell. */
const withId = (result: { readonly rows: readonly number[] }, window: Window) => ({ id: window.id, ...result });
const range = (count: number) => Array.from({ length: count }, (_, index) => index);
const rowsOf = (got: readonly unknown[]) => got.flatMap((data) => (data as Report).rows);

describe.each([TCP, REDIS])('ClientProxySink by $name', { timeout: 60_000 }, (kind) => {
  it('emits each result as an event', async () => {
    await receive(kind);
    const app = await send(kind, { pattern: 'report.event', mode: 'emit', map: withId as never });
    await append(app, range(6));
    await vi.waitUntil(() => other.got.length === 3, SOON);
    expect(rowsOf(other.got)).toEqual(range(6));
    expect(new Set(other.got.map((data) => (data as Report).id)).size).toBe(3);
    await vi.waitUntil(async () => (await committed(app)) === 6, SOON);
  });

  it('sends the digits of numbers that the other side could not read', async () => {
    await receive(kind);
    const large = { id: Long.fromString('9007199254740993'), n: 5n, price: Decimal128.fromString('1.10') };
    const app = await send(kind, { pattern: 'report.event', mode: 'emit', map: () => large });
    await append(app, range(2));
    await vi.waitUntil(() => other.got.length === 1, SOON);
    expect(other.got).toEqual([{ id: '9007199254740993', n: '5', price: '1.10' }]);
  });

  it('sends each result as a request, which commits when it is replied to', async () => {
    await receive(kind);
    let reply = (_: string) => {};
    other.reply = () => new Promise((resolve) => (reply = resolve));
    const app = await send(kind, { pattern: 'report.request', mode: 'send' });
    await append(app, range(2));
    await vi.waitUntil(() => other.got.length === 1, SOON);
    expect(await committed(app)).toBe(0);
    reply('stored');
    await vi.waitUntil(async () => (await committed(app)) === 2, SOON);
    expect(other.got).toEqual([{ rows: [0, 1] }]);
  });

  it('sends again what is replied to with an error, and shows that it is blocked', async () => {
    await receive(kind);
    let failing = true;
    other.reply = () => {
      if (failing) throw new RpcException('the disk is full');
      return undefined;
    };
    const app = await send(kind, { pattern: 'report.request', mode: 'send', map: withId as never });
    await append(app, range(4));
    await vi.waitFor(async () => {
      expect(await consumerOf(app)).toMatchObject({
        activity: 'blocked',
        lastError: { code: ErrorCode.SinkFailed, message: expect.stringContaining('the disk is full') },
      });
    }, SOON);
    failing = false;
    await vi.waitUntil(async () => (await committed(app)) === 4, SOON);
    expect(rowsOf(other.got)).toEqual(range(4));
  });

  it('sends elements on their own, and only those again that failed', async () => {
    await receive(kind);
    const refused = new Set([3, 7]);
    other.reply = (data) => {
      if (refused.delete(data as number)) throw new RpcException('not now');
      return 'stored';
    };
    const app = await send(kind, { pattern: 'report.request', mode: 'send', each: true, concurrency: 4 }, 10);
    await append(app, range(10));
    await vi.waitUntil(async () => (await committed(app)) === 10, SOON);
    expect(other.got.toSorted((a, b) => Number(a) - Number(b))).toEqual(range(10));
  });

  it('emits elements in their order', async () => {
    await receive(kind);
    const app = await send(kind, { pattern: 'report.event', mode: 'emit', each: true }, 500);
    await append(app, range(2000));
    await vi.waitUntil(() => other.got.length === 2000, SOON);
    expect(other.got).toEqual(range(2000));
  });

  it('gives up a request that nobody replies to in time, and sends it again', async () => {
    await receive(kind);
    other.reply = () => NEVER;
    const app = await send(kind, { pattern: 'report.request', mode: 'send', timeout: 50 });
    await append(app, range(2));
    await vi.waitFor(async () => {
      expect((await consumerOf(app))?.lastError).toMatchObject({
        message: expect.stringContaining('no reply within 50 ms'),
      });
    }, SOON);
    other.reply = () => 'stored';
    await vi.waitUntil(async () => (await committed(app)) === 2, SOON);
  });

  it('waits for the other side, at the beginning and in the middle', async () => {
    other.got = [];
    other.reply = () => 'stored';
    const app = await send(kind, { pattern: 'report.request', mode: 'send', timeout: 200, map: withId as never }, 1);
    await append(app, range(3));
    await vi.waitFor(async () => expect((await consumerOf(app))?.activity).toBe('blocked'), SOON);
    const first = await listen(kind);
    await vi.waitUntil(async () => (await committed(app)) === 3, SOON);
    const appending = append(
      app,
      range(500).map((row) => row + 3),
    );
    await vi.waitUntil(() => other.got.length > 50, SOON);
    await first.close();
    await appending;
    expect(new Set(rowsOf(other.got)).size).toBeLessThan(503);
    await vi.waitFor(async () => expect((await consumerOf(app))?.activity).toBe('blocked'), SOON);
    await listen(kind);
    await vi.waitUntil(async () => (await committed(app)) === 503, SOON);
    // At least once; with their windows' ids, so that what came twice can be told.
    const byId = new Map(other.got.map((data) => [(data as Report).id, data]));
    expect(rowsOf([...byId.values()]).toSorted((a, b) => a - b)).toEqual(range(503));
  });
});

describe('ClientProxySink by Redis', () => {
  it('continues when the server was killed and restarted', { timeout: 60_000 }, async () => {
    await receive(REDIS);
    const app = await send(REDIS, { pattern: 'report.request', mode: 'send', timeout: 300 }, 1);
    await append(app, range(300));
    await vi.waitUntil(() => other.got.length > 30, SOON);
    await redis.kill9();
    await vi.waitFor(async () => expect((await consumerOf(app))?.activity).toBe('blocked'), SOON);
    await redis.restart();
    await vi.waitUntil(async () => (await committed(app)) === 300, SOON);
    expect(new Set(rowsOf(other.got)).size).toBe(300);
  });
});

describe('ClientProxySink', () => {
  const client = () => ClientProxyFactory.create(TCP.options()) as ClientProxy;
  const window = (signal = new AbortController().signal) => ({ id: 'w', signal }) as Window;

  it('sends nothing for undefined, and says that null cannot be sent', async () => {
    await receive(TCP);
    const proxy = client();
    later(async () => proxy.close() as void);
    const sink = new ClientProxySink({ client: proxy, pattern: 'report.request', mode: 'send', each: true });
    await sink.put(undefined, window());
    await sink.put([], window());
    await sink.put([undefined, 0, '', false], window());
    expect(other.got).toEqual([0, '', false]);
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    for (const [result, text] of [
      [null, 'null'],
      [cycle, 'JSON has no cycles'],
      [() => 1, 'a function cannot be sent'],
    ] as const) {
      const refused = { code: ErrorCode.ResultRefused, message: expect.stringContaining(text) };
      await expect(sink.put(result, window())).rejects.toMatchObject(refused);
      await expect(sink.put([result], window())).rejects.toMatchObject(refused);
    }
    const map = () => JSON.parse('{') as unknown;
    const mapping = new ClientProxySink({ client: proxy, pattern: 'report.request', mode: 'send', map });
    await expect(mapping.put(1, window())).rejects.toMatchObject({
      code: ErrorCode.ResultRefused,
      message: expect.stringContaining('map threw for message 0 of window w'),
    });
  });

  it('gives up when the window is no longer held by this process', async () => {
    await receive(TCP);
    other.reply = () => NEVER;
    const proxy = client();
    later(async () => proxy.close() as void);
    const sink = new ClientProxySink({ client: proxy, pattern: 'report.request', mode: 'send' });
    const lost = new AbortController();
    const putting = sink.put(1, window(lost.signal));
    await vi.waitUntil(() => other.got.length === 1, SOON);
    lost.abort();
    await expect(putting).rejects.toMatchObject({
      code: ErrorCode.SinkFailed,
      message: expect.stringContaining('no longer held by this process'),
    });
  });

  it('takes back from the client what nobody waits for any more, and begins nothing for a lost window', async () => {
    let [sent, takenBack] = [0, 0];
    const silent = new Observable(() => {
      sent += 1;
      return () => (takenBack += 1);
    });
    const proxy = { send: () => silent, emit: () => silent, connect: () => undefined } as unknown as ClientProxy;
    const options = { client: proxy, pattern: 'x', mode: 'send', each: true, concurrency: 3 } as const;

    const late = new ClientProxySink({ ...options, timeout: 20 }).put([1, 2], window());
    await expect(late).rejects.toMatchObject({
      details: { reason: 'NOT_WRITTEN', failed: [{ index: 0 }, { index: 1 }], written: 0 },
    });
    expect([sent, takenBack]).toEqual([2, 2]);

    const lost = new AbortController();
    const putting = new ClientProxySink(options).put([1, 2, 3, 4], window(lost.signal));
    expect([sent, takenBack]).toEqual([5, 2]);
    lost.abort();
    await expect(putting).rejects.toMatchObject({ details: { failed: { length: 4 }, written: 0 } });
    expect([sent, takenBack]).toEqual([5, 5]);
    await expect(new ClientProxySink(options).put(1, window(lost.signal))).rejects.toThrow(
      /no longer held by this process/,
    );
    expect(sent).toBe(5);
  });

  it('rejects while nobody is there', async () => {
    const sink = new ClientProxySink({ client: client(), pattern: 'x', mode: 'emit' });
    await expect(sink.put(1, window())).rejects.toMatchObject({
      code: ErrorCode.SinkFailed,
      message: expect.stringMatching(/emit of 'x' for window w failed: .*ECONNREFUSED/),
    });
  });

  it('tells Kafka which replies it awaits before it connects', () => {
    const subscribed: unknown[] = [];
    const kafka = Object.assign(client(), { subscribeToResponseOf: (pattern: unknown) => subscribed.push(pattern) });
    new ClientProxySink({ client: kafka, pattern: 'a', mode: 'emit' });
    new ClientProxySink({ client: kafka, pattern: 'b', mode: 'send' });
    expect(subscribed).toEqual(['b']);
  });

  it.each([
    [{}, /mode is undefined; allowed: 'emit', 'send'/],
    [{ mode: 'emit', pattern: 'x' }, /client is undefined; allowed: a ClientProxy/],
    [{ mode: 'emit', pattern: 'x', client: {} }, /client is an object/],
    [{ mode: 'emit', pattern: '' }, /pattern is ''/],
    [{ mode: 'emit', pattern: 'x', timeout: 'soon' }, /timeout is 'soon'/],
    [{ mode: 'emit', pattern: 'x', concurrency: 0 }, /concurrency is 0/],
    [{ mode: 'emit', pattern: 'x', each: 1 }, /each is 1/],
    [{ mode: 'emit', pattern: 'x', map: 1 }, /map is 1/],
    [{ mode: 'emit', pattern: 'x', topic: 'y' }, /unknown option 'topic'/],
  ])('%# refuses nonsense', (options, message) => {
    const given = 'client' in options || /client/.test(message.source) ? options : { client: client(), ...options };
    expect(() => new ClientProxySink(given as never)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) }),
    );
  });

  it('refuses the client of gRPC, which has no patterns', () => {
    const grpc = Object.assign(client(), { getService: () => undefined });
    expect(() => new ClientProxySink({ client: grpc, pattern: 'x', mode: 'emit' })).toThrow(
      /gRPC has services and no patterns/,
    );
  });

  it('says what a subclass has to do, and which one', () => {
    class Reports extends ClientProxySink {}
    expect(() => Reflect.construct(Reports, [])).toThrow(/Reports.*call super\(\{ client/);
  });
});
