import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { AppendError, ErrorCode, isUnstorable } from '../errors/minibatch.error.js';
import { VirtualClock } from '../testing/virtual-clock.js';
import { FakeStore, turn } from './fake-store.spec.support.js';
import type { FailedAppend } from './append-result.js';
import { defineStream } from '../definitions/stream-ref.js';
import { StreamHub } from './stream-hub.js';

function setUp() {
  const store = new FakeStore();
  const clock = new VirtualClock(1000);
  const told: string[] = [];
  const hub = new StreamHub({
    store: store.port,
    clock,
    log: { log() {}, warn: (line) => told.push(`warn ${line}`), error: (line) => told.push(`error ${line}`) },
    retry: { base: 1000, max: 60_000, jitter: 0 },
    listener: {
      wake: (stream) => told.push(`wake ${stream}`),
      refresh: async (stream) => void told.push(`refresh ${stream}`),
      retain: (stream) => told.push(`retain ${stream}`),
      declare: (stream, partitions) => told.push(`declare ${stream} ${partitions}`),
    },
  });
  return { store, clock, hub, told };
}

async function errorOf(promise: Promise<unknown>): Promise<AppendError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof AppendError) return error;
  throw new Error(`no AppendError: ${String(error)}`);
}

describe('Stream.append', () => {
  it('stores the message and wakes the consumers', async () => {
    const { store, hub, told } = setUp();
    expect(await hub.stream('s').append({ a: 1 }, { key: 'k', headers: { h: '1' }, dedupeId: 'd' })).toEqual({
      id: '1',
    });
    expect(store.writes[0]?.messages).toEqual([
      {
        stream: 's',
        data: { a: 1 },
        bytes: 12,
        bigints: false,
        created: new Date(1000),
        key: 'k',
        headers: { h: '1' },
        dedupeId: 'd',
      },
    ]);
    expect(told).toEqual(['wake s']);
  });

  it('opens the store and creates the stream once', async () => {
    const { store, hub } = setUp();
    await Promise.all([hub.stream('a').append(1), hub.stream('a').append(2), hub.stream('b').append(3)]);
    await hub.stream('a').append(4);
    expect(store.calls).toEqual(['open', 'ensure a', 'ensure b']);
  });

  it('tries again to open the store and to create the stream after a failure', async () => {
    const { store, hub } = setUp();
    const { open, ensureStream } = store;
    store.open = () => Promise.reject(new Error('no store'));
    expect(await errorOf(hub.stream('a').append(1))).toMatchObject({ code: ErrorCode.AppendFailed, stored: 'no' });
    store.open = open;
    store.ensureStream = () => Promise.reject(new Error('no stream'));
    expect((await errorOf(hub.stream('a').append(1))).message).toContain('no stream');
    store.ensureStream = ensureStream;
    await expect(hub.stream('a').append(1)).resolves.toEqual({ id: '1' });
  });

  it('copies the data at the call', async () => {
    const { store, hub } = setUp();
    const data = { list: [1] };
    const appended = hub.stream('s').append(data);
    data.list.push(2);
    await appended;
    expect(store.written).toEqual([[{ list: [1] }]]);
  });

  it('rejects what can’t be stored, alone', async () => {
    const { store, hub } = setUp();
    const stream = hub.stream('s');
    const results = await Promise.allSettled([
      stream.append(1),
      stream.append({ f: () => 1 }),
      stream.append('x'.repeat(20_000)),
      stream.append(4),
      stream.append(5, { dedupeId: '' }),
      stream.append(6, { headers: { h: 1 } as never }),
      stream.append(7, { key: 1 as never }),
    ]);
    expect(store.written).toEqual([[1, 4]]);
    expect(
      results.map((result) => (result.status === 'rejected' ? (result.reason as AppendError).code : 'ok')),
    ).toEqual([
      'ok',
      ErrorCode.NotStorable,
      ErrorCode.MessageTooLarge,
      'ok',
      ErrorCode.NotStorable,
      ErrorCode.NotStorable,
      ErrorCode.NotStorable,
    ]);
  });

  it.each([
    ['dedupeId', { dedupeId: '' }],
    ['dedupeId', { dedupeId: 5 }],
    ['dedupeId', { dedupeId: null }],
    ['dedupeId', { dedupeId: '\ud800' }],
    ['key', { key: {} }],
    ['key', { key: 'a\udfff' }],
    ['headers', { headers: 'h' }],
    ['headers', { headers: ['h'] }],
    ['headers', { headers: new Map([['a', 'b']]) }],
    ['headers', { headers: new Headers({ a: 'b' }) }],
    ['headers.a', { headers: { a: null } }],
    ['headers.a', { headers: { a: '\ud800' } }],
    ['headers["\\ud800"]', { headers: { '\ud800': 'a' } }],
    ['headers["\\u0000"]', { headers: { '\0': 'a' } }],
    ['headers._bsontype', { headers: { _bsontype: 'a' } }],
    [
      'headers',
      {
        headers: {
          get a() {
            throw new Error('no');
          },
        },
      },
    ],
    ['key', { key: new Proxy({}, { get: () => JSON.parse('') as never }) }],
  ])('refuses the message for what is wrong with %s, and writes the others', async (path, options) => {
    const { store, hub } = setUp();
    const stream = hub.stream('s');
    const [error] = await Promise.all([errorOf(stream.append(1, options as never)), stream.append(2)]);
    expect(error).toMatchObject({ code: ErrorCode.NotStorable, stored: 'no', details: { path } });
    expect(isUnstorable(error)).toBe(true);
    expect(error.message).toContain(`append to 's': ${path} is `);
    expect(store.written).toEqual([[2]]);
  });

  it('takes any dedupe id, a long one as its hash', async () => {
    const { store, hub } = setUp();
    store.auto = false;
    const long = 'x'.repeat(1_000_000);
    const hashed = `sha256:${createHash('sha256').update(long).digest('hex')}`;
    const ids = ['a\0b', '\0', '__proto__', 'ü'.repeat(512), long, `${long}y`, hashed];
    for (const dedupeId of ids) void hub.stream('s').append(1, { dedupeId });
    await turn();
    const given = store.writes[0]!.messages.map(({ dedupeId }) => dedupeId!);
    expect(given.slice(0, 4)).toEqual(ids.slice(0, 4));
    expect(given[4]).toBe(hashed);
    expect(new Set(given).size).toBe(ids.length);
    for (const id of given) expect(id.length).toBeLessThanOrEqual(512);
  });

  it('says when the message was there already', async () => {
    const { store, hub } = setUp();
    store.auto = false;
    const appended = hub.stream('s').append(1, { dedupeId: 'd' });
    await turn();
    store.writes[0]?.answer([{ status: 'duplicate' }]);
    await expect(appended).resolves.toEqual({ duplicate: true });
  });

  it('writes alone in a transaction, and at once', async () => {
    const { store, hub } = setUp();
    store.auto = false;
    const session = { id: 1 };
    void hub.stream('s').append(1);
    await turn();
    const inSession = hub.stream('s').append(2, { session });
    await turn();
    expect(store.writes.map(({ messages, options }) => [messages.length, options])).toEqual([
      [1, {}],
      [1, { session }],
    ]);
    store.writes[1]?.answer();
    await inSession;
    store.writes[0]?.answer();
  });

  it('refuses a closed stream, and takes messages again when it was opened again', async () => {
    const { store, hub } = setUp();
    const stream = hub.stream('s');
    await stream.append(1);
    await stream.close();
    expect(await errorOf(stream.append(2))).toMatchObject({ code: ErrorCode.StreamClosed, stored: 'no' });
    await store.updateStream('s', { status: 'open' });
    await expect(stream.append(3)).resolves.toHaveProperty('id');
  });

  it('notices within seconds that another process closed the stream', async () => {
    const { store, hub, clock } = setUp();
    const stream = hub.stream('s');
    await stream.append(1);
    await store.updateStream('s', { status: 'closed' });
    await stream.append(2);
    await clock.advance(3000);
    await stream.append(3);
    await turn();
    expect((await errorOf(stream.append(4))).code).toBe(ErrorCode.StreamClosed);
  });

  it.each(['', 'a\0b', 'a\ud800', '\udc00', 'x'.repeat(513), 5])('refuses %j as name', (name) => {
    const { hub } = setUp();
    expect(() => hub.stream(name as string)).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
    expect(() => defineStream(name as string)).toThrow(expect.objectContaining({ code: ErrorCode.InvalidOptions }));
  });
});

describe('Stream.appendMany', () => {
  it('stores all in one write, each with its own options', async () => {
    const { store, hub } = setUp();
    const each = (data: number, index: number) => ({ key: `k${data}`, dedupeId: `${index}` });
    await expect(hub.stream<number>('s').appendMany([7, 8], { each })).resolves.toEqual([{ id: '1' }, { id: '2' }]);
    expect(store.writes).toHaveLength(1);
    expect(store.writes[0]?.messages).toMatchObject([
      { data: 7, key: 'k7', dedupeId: '0' },
      { data: 8, key: 'k8', dedupeId: '1' },
    ]);
    await expect(hub.stream('s').appendMany([])).resolves.toEqual([]);
    expect(store.writes).toHaveLength(1);
  });

  it('writes nothing if one can’t be stored', async () => {
    const { store, hub } = setUp();
    for (const given of [5, null, new Set([1])]) {
      const appended = hub.stream('s').appendMany(given as never);
      await expect(appended).rejects.toMatchObject({ code: ErrorCode.InvalidOptions });
    }
    const withHole: unknown[] = [1];
    withHole[2] = 1;
    expect((await errorOf(hub.stream('s').appendMany(withHole))).code).toBe(ErrorCode.NotStorable);
    expect((await errorOf(hub.stream('s').appendMany([1, Symbol('x')]))).code).toBe(ErrorCode.NotStorable);
    expect(store.writes).toHaveLength(0);
  });

  it('tells which messages failed', async () => {
    const { store, hub } = setUp();
    store.auto = false;
    const appended = hub.stream('s').appendMany(['a', 'b', 'c']);
    await turn();
    const bad = new AppendError(ErrorCode.MessageTooLarge, 'too large', 'no');
    store.writes[0]?.answer([{ status: 'stored', id: '1' }, { status: 'failed', error: bad }, { status: 'duplicate' }]);
    const error = await errorOf(appended);
    expect(error).toMatchObject({ code: ErrorCode.MessageTooLarge, stored: 'no', cause: bad });
    expect(error.message).toContain("1 of 3 messages could not be appended to 's'; the first is number 1");
    expect(error.details['failed'] as FailedAppend[]).toEqual([{ index: 1, stored: 'no', error: bad }]);
    expect(error.details['results']).toEqual([{ id: '1' }, undefined, { duplicate: true }]);
  });
});

describe('Stream', () => {
  it('pauses, resumes and flushes after what was appended before', async () => {
    const { store, hub, told } = setUp();
    const stream = hub.stream('s');
    store.auto = false;
    void stream.append(1);
    const flushed = stream.flush();
    await turn();
    expect(store.calls).not.toContain('update s {"flush":true}');
    store.writes[0]?.answer();
    await flushed;
    await stream.pause();
    await stream.resume();
    expect(store.calls.filter((call) => call.startsWith('update'))).toEqual([
      'update s {"flush":true}',
      'update s {"paused":true}',
      'update s {"paused":false}',
    ]);
    expect(told.filter((line) => line === 'refresh s')).toHaveLength(3);
  });

  it('has statistics, or says that there is no such stream', async () => {
    const { hub } = setUp();
    await hub.stream('s').append(1);
    await expect(hub.stream('s').stats()).resolves.toMatchObject({ name: 's' });
    await expect(hub.stream('t').stats()).rejects.toMatchObject({ code: ErrorCode.UnknownStream });
    await expect(hub.stream('t').describe()).resolves.toBeUndefined();
  });

  it('is the same handle for a name, however it is given', () => {
    const { hub } = setUp();
    expect(hub.stream(defineStream('s'))).toBe(hub.stream('s'));
  });
});

describe('StreamHub.close', () => {
  it('answers what came before and refuses what comes after', async () => {
    const { store, hub } = setUp();
    store.auto = false;
    const before = hub.stream('s').append(1);
    await turn();
    const closed = hub.close(1000);
    await turn();
    const after = await errorOf(hub.stream('s').append(2));
    expect(after).toMatchObject({ code: ErrorCode.ShuttingDown, stored: 'no' });
    store.writes[0]?.answer();
    await expect(before).resolves.toEqual({ id: '1' });
    await closed;
    expect(() => hub.stream('s').attach({ stream: async () => {} })).toThrow(
      expect.objectContaining({ code: ErrorCode.ShuttingDown }),
    );
  });
});
