import { randomUUID } from 'node:crypto';
import { ErrorCode, type SourceTarget, type StoreDefinition } from 'nestjs-minibatch';
import { CeleryEventSource, type CeleryTaskEvent, FailureReason } from 'nestjs-minibatch/celery';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { startRabbitmq } from '../../scripts/servers/rabbitmq/rabbitmq.mjs';
import { startRedis } from '../../scripts/servers/redis/redis.mjs';
import { closeAll, later, SOON, STOP_LIMIT } from '../e2e/support/applications.js';
import { repository, succeed } from '../support/workspace.js';
import {
  bodiesOf,
  depthOf,
  event,
  failingStore,
  follow,
  ids,
  listening,
  RABBITMQ,
  REDIS,
  succeeded,
  usePublisher,
  useServers,
} from './support/celery.js';

afterEach(closeAll);

const { serverOf, urlOf } = useServers(REDIS, RABBITMQ);

/** An address where nobody listens. */
const NOBODY = { redis: 'redis://127.0.0.1:1/0', rabbitmq: 'amqp://127.0.0.1:1' } as const;
const WRONG = { redis: 'redis://:wrong@', rabbitmq: 'amqp://guest:wrong@' } as const;

describe.each([REDIS, RABBITMQ])('CeleryEventSource on $name', { timeout: 90_000 }, (kind) => {
  const url = () => urlOf(kind);

  it('remembers names and arguments by uuid, and adds what it knows', async () => {
    const publisher = await usePublisher(kind, url());
    const follower = await follow({ url: url(), events: ['task-succeeded', 'task-failed', 'task-revoked'] });
    await listening(follower, publisher);
    const [a = '', b = ''] = ids(2, randomUUID());
    await publisher.publish(event('task-sent', { uuid: a, name: 'app.a', args: '(1,)', queue: 'celery' }), 'task.sent');
    await publisher.publish([event('task-received', { uuid: b, name: 'app.b', eta: null, retries: 0 })]);
    await publisher.publish([succeeded(a), event('task-failed', { uuid: b, exception: 'E()', traceback: '…' })]);
    await publisher.publish([event('task-revoked', { uuid: 'unheard', expired: true })]);
    await vi.waitUntil(() => follower.messages.length === 3, SOON);
    expect(follower.data).toEqual([
      {
        task_event: 'task-succeeded',
        task_name: 'app.a',
        task_id: a,
        task_info: { args: '(1,)', result: "'done'", runtime: 0.5 },
        task_state: 'SUCCESS',
        task_runtime: 0.5,
      },
      {
        task_event: 'task-failed',
        task_name: 'app.b',
        task_id: b,
        task_info: { retries: 0, exception: 'E()' },
        task_state: 'FAILURE',
        task_runtime: null,
      },
      {
        task_event: 'task-revoked',
        task_name: null,
        task_id: 'unheard',
        task_info: {},
        task_state: 'REVOKED',
        task_runtime: null,
      },
    ]);
    expect(follower.messages[0]).toMatchObject({
      key: a,
      headers: { 'celery-hostname': 'test@localhost', 'celery-timestamp': expect.stringMatching(/^\d+\.?\d*$/) },
    });
    expect(follower.source.counters).toMatchObject({ appended: 3, unnamed: 1 });
  });

  it('stores an event once, no matter how often and by how many sources it is received', async () => {
    const publisher = await usePublisher(kind, url());
    const { store } = failingStore();
    const shared: StoreDefinition = { kind: 'memory', useFactory: once(() => store.useFactory()) };
    const [first, second] = [
      await follow({ url: url() }, { store: shared }),
      await follow({ url: url() }, { store: shared }),
    ];
    await Promise.all([listening(first, publisher), listening(second, publisher)]);
    const body = [succeeded('twice')];
    await publisher.publish(body);
    await publisher.publish(body);
    // The same task ends again, at another time: that is another event.
    await publisher.publish([succeeded('twice'), succeeded('last')]);
    const all = () => [...first.data, ...second.data].map(({ task_id }) => task_id);
    const counts = () => first.source.counters.appended + second.source.counters.appended;
    await vi.waitUntil(() => counts() >= 8 && all().includes('last'), SOON);
    expect(all().toSorted()).toEqual(['last', 'twice', 'twice']);
  });

  it('skips what is not an event, counts it and says why', async () => {
    const publisher = await usePublisher(kind, url());
    const queue = kind === RABBITMQ ? { queue: `malformed-${randomUUID()}` } : {};
    const follower = await follow({ url: url(), ...queue });
    await listening(follower, publisher);
    await publisher.publishRaw('{"type": ', 'application/json');
    await publisher.publishRaw('\u0000\u0001', 'application/json');
    await publisher.publishRaw('gAJ9cQA=', 'application/x-python-serialize');
    await publisher.publishRaw('null', 'application/json');
    await publisher.publish({ type: 'task-succeeded' });
    await publisher.publish([succeeded('good among bad'), 1, { uuid: 'x' }]);
    await publisher.publish([]);
    if (kind === REDIS) await publisher.publishRaw('no envelope');
    await publisher.publish([succeeded('good')]);
    await vi.waitUntil(() => follower.messages.length === 2, SOON);
    expect(follower.data.map(({ task_id }) => task_id)).toEqual(['good among bad', 'good']);
    const malformed = kind === REDIS ? 8 : 7;
    expect(follower.source.counters).toMatchObject({ malformed, skipped: malformed, appended: 2 });
    const lines = follower.log.lines.filter((line) => line.includes('is malformed and was skipped'));
    expect(lines).toHaveLength(malformed);
    expect(lines).toContainEqual(expect.stringMatching(/TaskFeed: .*3 so far.*event_serializer/));
    expect(await follower.status()).toMatchObject({ state: 'running', failures: 0 });
    await follower.app.close();
    if (queue.queue !== undefined) expect(await depthOf(url(), queue.queue)).toBe(0);
  });

  it('skips what the stream cannot store, counts it and says which', async () => {
    const publisher = await usePublisher(kind, url());
    const follower = await follow({ url: url() });
    await listening(follower, publisher);
    await publisher.publish([
      succeeded('before'),
      succeeded('huge', { result: 'x'.repeat(17 * 1024 * 1024) }),
      succeeded('after'),
    ]);
    await publisher.publish([succeeded('last')]);
    await vi.waitUntil(() => follower.messages.length === 3, SOON);
    expect(follower.data.map(({ task_id }) => task_id)).toEqual(['before', 'after', 'last']);
    expect(follower.source.counters).toMatchObject({ unstorable: 1, appended: 3 });
    expect(follower.log.lines).toContainEqual(
      expect.stringMatching(/error: .*celery:huge:task-succeeded.*1 so far.*MESSAGE_TOO_LARGE/),
    );
  });

  it("fails with it instead with unstorable: 'fail'", async () => {
    const publisher = await usePublisher(kind, url());
    const follower = await follow({ url: url(), unstorable: 'fail' });
    await listening(follower, publisher);
    await publisher.publish([succeeded('huge', { result: 'x'.repeat(17 * 1024 * 1024) })]);
    await vi.waitFor(async () => {
      const { failures, lastError } = await follower.status();
      expect(failures).toBeGreaterThan(1);
      expect(lastError).toMatchObject({ code: ErrorCode.MessageTooLarge });
    }, SOON);
  });

  it('tells the runs of a task apart, and loses no more than a field to NaN', async () => {
    const publisher = await usePublisher(kind, url());
    const follower = await follow({ url: url(), events: '*' });
    await listening(follower, publisher);
    const uuid = randomUUID();
    await publisher.publish([
      event('task-received', { uuid, name: 'app.a', eta: 'monday', retries: 0 }),
      succeeded(uuid, { result: '1', runtime: 2 }),
      // Delivered again.
      event('task-received', { uuid, name: 'app.a', eta: null, retries: 0 }),
      event('task-failed', { uuid, exception: 'E()' }),
    ]);
    const other = JSON.stringify(event('task-failed', { uuid: 'other', exception: 'E()' }));
    const odd = JSON.stringify(succeeded('odd', { result: 'x' })).replace('"runtime":0.5', '"runtime":NaN');
    const hostile = JSON.stringify(succeeded('hostile', { hostname: { toString: null } }));
    await publisher.publishRaw(`[${odd},${hostile},${other}]`, 'application/json');
    const seen = () => follower.data.filter(({ task_id }) => task_id !== 'nobody');
    await vi.waitUntil(() => seen().length === 7, SOON);
    expect(seen()).toMatchObject([
      { task_state: 'RECEIVED', task_info: { eta: 'monday', retries: 0 }, task_runtime: null },
      { task_state: 'SUCCESS', task_info: { eta: 'monday', result: '1', runtime: 2 }, task_runtime: 2 },
      { task_state: 'RECEIVED', task_runtime: null },
      { task_state: 'FAILURE', task_runtime: null },
      { task_id: 'odd', task_state: 'SUCCESS', task_runtime: null },
      { task_id: 'hostile', task_state: 'SUCCESS', task_runtime: 0.5 },
      { task_id: 'other', task_state: 'FAILURE' },
    ]);
    expect(seen()[3]?.task_info).toEqual({ retries: 0, exception: 'E()' });
    expect(seen()[4]?.task_info).toEqual({ result: 'x' });
    expect(follower.source.counters).toMatchObject({ malformed: 0, unstorable: 0 });
    await expect(follower.status()).resolves.toMatchObject({ state: 'running', failures: 0 });
  });

  it('continues after what no store can take, and after what is no event', async () => {
    const publisher = await usePublisher(kind, url());
    const given: unknown[] = [];
    const follower = await follow({
      url: url(),
      malformed: (body) => ({ task_id: `malformed ${String(body)}` }),
      unstorable: async (message) => void given.push((message as CeleryTaskEvent).task_id),
    });
    await listening(follower, publisher);
    const deep = JSON.parse('['.repeat(200) + ']'.repeat(200)) as unknown;
    await publisher.publish([succeeded('x'.repeat(600)), succeeded('deep', { result: deep }), succeeded('good')]);
    await publisher.publishRaw('{"type":{}}', 'application/json');
    await publisher.publishRaw('['.repeat(10_000), 'application/json');
    await publisher.publish([succeeded('last')]);
    await vi.waitUntil(() => follower.data.some(({ task_id }) => task_id === 'last'), SOON);
    expect(follower.data.map(({ task_id }) => task_id.slice(0, 22))).toEqual(
      expect.arrayContaining(['good', 'malformed {"type":{}}', `malformed ${'['.repeat(12)}`, 'last']),
    );
    expect(given).toContain('deep');
    expect(follower.source.counters).toMatchObject({ malformed: 2, unstorable: given.length });
    await expect(follower.status()).resolves.toMatchObject({ state: 'running', failures: 0 });
  });

  it('loses nothing while the store is away', async () => {
    const publisher = await usePublisher(kind, url());
    const away = failingStore();
    const follower = await follow({ url: url() }, { store: away.store });
    await listening(follower, publisher);
    const tasks = ids(5000);
    away.failing = true;
    for (const body of bodiesOf(tasks)) await publisher.publish(body);
    await vi.waitUntil(() => away.failed > 2, SOON);
    expect(await follower.status()).toMatchObject({
      lastError: { message: expect.stringContaining('the disk is full') },
    });
    away.failing = false;
    await vi.waitUntil(() => follower.messages.length >= tasks.length, SOON);
    expect(follower.data.map(({ task_id }) => task_id).toSorted()).toEqual(tasks);
  });

  it('stops within a second, also while the store hangs', async () => {
    const publisher = await usePublisher(kind, url());
    const source = new CeleryEventSource({ url: url() });
    const stop = new AbortController();
    let appends = 0;
    const append = () => {
      appends += 1;
      return new Promise<void>(() => undefined);
    };
    const target: SourceTarget<never> = { name: 'tasks', append, appendMany: append, position: async () => undefined };
    const running = source.stream(target, stop.signal);
    await vi.waitUntil(async () => {
      await publisher.publish([succeeded(randomUUID())]);
      return appends > 0;
    }, SOON);
    const began = performance.now();
    stop.abort();
    await running;
    expect(performance.now() - began).toBeLessThan(STOP_LIMIT);
    // It counts those in flight, which may be lost.
    expect(source.counters.dropped).toBeGreaterThan(0);
  });

  it('stores what it has when it is stopped', async () => {
    const publisher = await usePublisher(kind, url());
    const source = new CeleryEventSource({ url: url() });
    const stop = new AbortController();
    const stored: unknown[] = [];
    let first = () => {};
    const slow = new Promise<void>((resolve) => (first = resolve));
    const target: SourceTarget<never> = {
      name: 'tasks',
      append: async () => undefined,
      appendMany: async (data) => {
        if (stored.length > 0) await slow;
        stored.push(...data);
      },
      position: async () => undefined,
    };
    const running = source.stream(target, stop.signal);
    await vi.waitUntil(async () => {
      await publisher.publish([succeeded(randomUUID())]);
      return stored.length > 0;
    }, SOON);
    const before = source.counters.received;
    for (const body of bodiesOf(ids(1000))) await publisher.publish(body);
    await vi.waitUntil(() => source.counters.received >= before + 1000, SOON);
    stop.abort();
    first();
    await running;
    expect(stored).toHaveLength(source.counters.received);
    expect(source.counters).toMatchObject({ dropped: 0, appended: stored.length });
  });

  it('reads by TLS from a server whose certificate authority it is given', async () => {
    const { tlsUrl = '', ca = '' } = serverOf(kind);
    const publisher = await usePublisher(kind, url());
    const follower = await follow({ url: tlsUrl, tls: { ca } });
    await listening(follower, publisher);
    await publisher.publish([succeeded('in secret')]);
    await vi.waitUntil(() => follower.data.some(({ task_id }) => task_id === 'in secret'), SOON);
    const distrustful = await follow({ url: tlsUrl }, { listening: false });
    await vi.waitFor(async () => {
      const { lastError } = await distrustful.status();
      expect(lastError).toMatchObject({
        code: ErrorCode.SourceFailed,
        message: expect.stringMatching(/self.signed certificate|unable to verify/),
      });
    }, SOON);
    if (kind === REDIS) await listening(await follow({ url: `${tlsUrl}?ssl_cert_reqs=none` }), publisher);
  });

  it('reports with a code that its credentials are refused', async () => {
    const server = kind === REDIS ? await startRedis({ password: 'secret' }) : undefined;
    if (server) later(() => server.stop());
    const address = `127.0.0.1:${(server ?? serverOf(kind)).port}`;
    const follower = await follow({ url: `${WRONG[kind.name]}${address}` });
    await vi.waitFor(async () => {
      const { lastError } = await follower.status();
      expect(lastError).toMatchObject({
        code: ErrorCode.SourceFailed,
        message: expect.stringMatching(/refuses access; check user and password/),
      });
      expect(lastError?.message).not.toContain('wrong@');
    }, SOON);
    if (server) {
      const none = await follow({ url: `redis://${address}` });
      await vi.waitFor(
        async () => expect((await none.status()).lastError?.message).toMatch(/refuses access.*NOAUTH/),
        SOON,
      );
    }
    const source = new CeleryEventSource({ url: `${WRONG[kind.name]}${address}` });
    await expect(
      source.stream({ name: 's' } as SourceTarget<never>, new AbortController().signal),
    ).rejects.toMatchObject({
      code: ErrorCode.SourceFailed,
      details: { reason: FailureReason.Unauthorized },
    });
  });

  it('reports with a code that there is no server, and begins when there is one', async () => {
    const nobody = new CeleryEventSource({ url: NOBODY[kind.name] });
    await expect(
      nobody.stream({ name: 's' } as SourceTarget<never>, new AbortController().signal),
    ).rejects.toMatchObject({
      code: ErrorCode.SourceFailed,
      message: expect.stringContaining('check that it runs'),
      details: { reason: FailureReason.Unreachable },
    });
    const start = kind === REDIS ? startRedis : startRabbitmq;
    const placeholder = await start();
    const { port, url: address } = placeholder;
    await placeholder.stop();
    const follower = await follow({ url: address });
    await vi.waitUntil(async () => (await follower.status()).failures > 1, SOON);
    const server = await start({ port });
    later(() => server.stop());
    const publisher = await usePublisher(kind, address);
    await listening(follower, publisher);
    await publisher.publish([succeeded('at last')]);
    await vi.waitUntil(() => follower.messages.length === 1, SOON);
  });
});

describe('CeleryEventSource without a client', () => {
  it.each([
    ['ioredis', 'redis://127.0.0.1/0'],
    ['amqplib', 'amqp://127.0.0.1'],
  ])('says what to install: %s', async (name, url) => {
    const output = await succeed(process.execPath, [repository('test/fixtures/celery/without-client.mjs'), url]);
    expect(JSON.parse(output)).toMatchObject({
      code: ErrorCode.MissingPackage,
      message: expect.stringContaining(`npm install ${name}`),
      details: { package: name },
    });
  });
});

function once<R>(make: () => R): () => R {
  let made: { readonly value: R } | undefined;
  return () => (made ??= { value: make() }).value;
}
