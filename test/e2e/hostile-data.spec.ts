import 'reflect-metadata';
import { deepStrictEqual } from 'node:assert';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BSONRegExp, Double, Int32, Long, ObjectId, serialize } from 'bson';
import { Injectable, type ModuleMetadata, type Type } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';
import {
  AppendError,
  ErrorCode,
  memoryStore,
  MinibatchModule,
  type Sink,
  StatusService,
  Streaming,
  StreamService,
  type StreamStore,
  type Window,
} from 'nestjs-minibatch';
import { lmdbStore } from 'nestjs-minibatch/lmdb';
import { afterEach, describe, expect, inject, it, vi } from 'vitest';
import { BrokenText } from '../support/hostile-values.js';
import { postgresPlace } from './support/places.js';
import { closeAll, later, Log, mongoose, SOON, start, useDatabase } from './support/applications.js';

const NAMES = ['__proto__', 'constructor', 'toString', '$set', '$', 'a.b', '.', 'a.$.b', 'a/b?c#d', ' ', 'Ünï💥', '\n'];

/** What comes out of `JSON.parse` when somebody means harm, and what a document database might take for its own. */
const DATA: readonly unknown[] = [
  JSON.parse('{"__proto__": {"polluted": true}}'),
  JSON.parse('{"a": [{"__proto__": {"polluted": true}, "b": 1}]}'),
  { constructor: { prototype: { polluted: true } } },
  { $set: { 'data.a': 1 }, $inc: { n: 1 } },
  { $where: 'sleep(1000)', $ne: null, $: 1 },
  { 'a.b': 1, '.': { '..': 2 }, 'c.$.d': [{ 'e.f': 3 }] },
  { '': { '': 1 } },
  { _id: 5, stream: 'other', processed: true, data: { data: 1 }, dedupeKey: 'x', created: null },
  { $oid: '000000000000000000000000', $date: 'x', $ref: 'y', $id: 1 },
  Object.fromEntries(['length', 'toString', 'hasOwnProperty', 'then', 'toJSON'].map((key) => [key, key])),
  { ключ: '💥', '\u0001': '\0' },
  [[], [[]], {}, null],
  null,
  false,
  0,
  '',
  '$set',
];
const HEADERS = JSON.parse('{"__proto__": "a", "constructor": "b", "$set": "c", "d.e": "f", "": "g"}') as Record<
  string,
  string
>;

/** The class of all consumers of a test: one of each stream's group. */
function consumer(streams: readonly string[], size: number, group?: string) {
  @Injectable()
  class Taker {
    readonly windows: Window[] = [];
    take(window: Window) {
      this.windows.push(window);
    }
  }
  const descriptor = Object.getOwnPropertyDescriptor(Taker.prototype, 'take');
  if (!descriptor) throw new Error('no method');
  for (const stream of streams) {
    Streaming(stream, { size, interval: '1h', ...(group === undefined ? {} : { group }) })(
      Taker.prototype,
      'take',
      descriptor,
    );
  }
  return Taker;
}

const stores: Record<string, () => ModuleMetadata['imports']> = {
  memory: () => [MinibatchModule.forRoot({ store: memoryStore() })],
  lmdb: () => {
    const path = mkdtempSync(join(tmpdir(), 'minibatch-hostile-'));
    later(async () => rmSync(path, { recursive: true, force: true }));
    return [MinibatchModule.forRoot({ store: lmdbStore({ path }) })];
  },
  postgres: () => [MinibatchModule.forRoot({ store: postgresPlace() })],
  mongoose: () => [mongoose(useDatabase()), MinibatchModule.forRoot()],
};

afterEach(async () => {
  await closeAll();
  expect(Reflect.get({}, 'polluted')).toBeUndefined();
});

describe.each(Object.keys(stores))('on the %s store', (name) => {
  const boot = async (...providers: Type[]): Promise<{ app: TestingModule; streams: StreamService }> => {
    const app = await start({ imports: stores[name]?.() ?? [], providers });
    return { app, streams: app.get(StreamService, { strict: false }) };
  };

  it('hostile data comes back as it was, from streams with hostile names', async () => {
    const Taker = consumer(NAMES, DATA.length);
    const { app, streams } = await boot(Taker);
    for (const stream of NAMES) {
      await Promise.all(DATA.map((data) => streams.append(stream, data, { key: stream, headers: HEADERS })));
    }
    const { windows } = app.get(Taker);
    await vi.waitUntil(() => windows.length >= NAMES.length, SOON);
    expect(windows.map(({ stream }) => stream).toSorted()).toEqual(NAMES.toSorted());
    for (const window of windows) {
      // Not Vitest's: it asks an object's own `constructor` for its type.
      deepStrictEqual(window.data, DATA);
      expect(Object.keys(window.data[0] as object)).toEqual(['__proto__']);
      for (const message of window.messages) {
        expect(message).toMatchObject({ key: window.stream });
        expect(Object.entries(message.headers ?? {})).toEqual(Object.entries(HEADERS));
      }
    }
    // Each stream has been emptied, and nothing else was.
    await vi.waitUntil(async () => {
      const left = await Promise.all(NAMES.map((stream) => streams.stream(stream).stats()));
      return left.every(({ buffered }) => buffered === 0);
    }, SOON);
    expect((await streams.streams()).map((stream) => stream.name).toSorted()).toEqual(NAMES.toSorted());
  });

  it('groups, dedupe ids and sources with hostile names are kept apart', async () => {
    // mongo-java-server takes strings for expressions where statistics look at marks; as groups these need a real mongod.
    const simple = name === 'mongoose' && inject('mongoKind') === 'mongo-java-server';
    const groups = simple ? NAMES.filter((group) => !group.startsWith('$')) : NAMES;
    const takers = groups.map((group) => consumer(['__proto__'], NAMES.length, group));
    const { app, streams } = await boot(...takers);
    const stream = streams.stream('__proto__');
    for (const source of NAMES) {
      await stream.attach(
        {
          async stream(target) {
            expect(await target.position()).toBeUndefined();
            const position = JSON.parse(`{"__proto__": ${JSON.stringify(source)}, "$set": {"a.b": 1}}`) as unknown;
            await target.append({ source }, { dedupeId: source, position });
            await target.append({ source }, { dedupeId: source });
            expect(await target.position()).toStrictEqual(position);
          },
        },
        { name: source },
      ).finished;
    }
    for (const taker of takers) {
      const { windows } = app.get(taker);
      await vi.waitUntil(() => windows.length > 0, SOON);
      expect(windows).toHaveLength(1);
      expect(windows[0]?.data).toEqual(NAMES.map((source) => ({ source })));
    }
    await vi.waitUntil(async () => (await stream.stats()).buffered === 0, SOON);
    expect((await stream.stats()).consumers.map(({ group }) => group).toSorted()).toEqual(groups.toSorted());
  });

  it('streams with hostile names can be paused, flushed, told of and closed', async () => {
    const Taker = consumer(NAMES, 1000);
    const { app, streams } = await boot(Taker);
    const { windows } = app.get(Taker);
    for (const [index, stream] of NAMES.map((each) => streams.stream(each)).entries()) {
      await stream.append(index);
      await stream.pause();
      await expect(stream.describe()).resolves.toMatchObject({ name: stream.name, paused: true });
      await stream.resume();
      await stream.flush();
      await vi.waitUntil(() => windows.length > index, SOON);
      await stream.close();
      await expect(stream.append(1)).rejects.toMatchObject({ code: ErrorCode.StreamClosed });
    }
    expect(windows.map(({ stream, data }) => [stream, data])).toEqual(NAMES.map((stream, index) => [stream, [index]]));
    const { streams: told } = await app.get(StatusService, { strict: false }).snapshot();
    expect(told.map((stream) => [stream.name, stream.stored?.status])).toEqual(
      NAMES.toSorted().map((stream) => [stream, 'closed']),
    );
  });

  it('what can’t be stored is refused alone: those that were appended with it arrive', async () => {
    const Taker = consumer(['flights'], 6);
    const { app, streams } = await boot(Taker);
    const cycle: Record<string, unknown> = { name: 'cycle' };
    cycle['self'] = { deep: [cycle] };
    const store = app.get<{ maxMessageBytes: number }>('MINIBATCH_STREAM_STORE', { strict: false });
    const appended = [
      'first',
      { run: () => 1 },
      'second',
      cycle,
      Symbol('symbol'),
      'third',
      undefined,
      { at: new Date(Number.NaN) },
      'x'.repeat(17 * 2 ** 20),
      'fourth',
      // Small enough alone; with what is stored around it, it is not.
      'y'.repeat(store.maxMessageBytes - 16),
      { toJSON: () => Object.assign(new Map()) as unknown },
      'fifth',
      2n ** 70n,
      'sixth',
    ].map((data) => streams.append('flights', data, { headers: { around: 'z'.repeat(64) } }));
    const codes = (await Promise.allSettled(appended)).map((outcome) => {
      if (outcome.status === 'fulfilled') return 'stored';
      expect(outcome.reason).toBeInstanceOf(AppendError);
      const { code, stored, message } = outcome.reason as AppendError;
      expect(stored).toBe('no');
      expect(message).toContain(`[${code}]`);
      return code;
    });
    const { NotStorable, MessageTooLarge } = ErrorCode;
    expect(codes).toEqual([
      'stored',
      NotStorable,
      'stored',
      NotStorable,
      NotStorable,
      'stored',
      NotStorable,
      NotStorable,
      MessageTooLarge,
      'stored',
      MessageTooLarge,
      NotStorable,
      'stored',
      NotStorable,
      'stored',
    ]);
    const { windows } = app.get(Taker);
    await vi.waitUntil(() => windows.length > 0, SOON);
    expect(windows[0]?.data).toEqual(['first', 'second', 'third', 'fourth', 'fifth', 'sixth']);
  });

  it('one message of a call that can’t be stored keeps the others from being written', async () => {
    const { streams } = await boot();
    const many = streams.stream('flights').appendMany([1, { fine: true, not: () => 1 }, 3]);
    await expect(many).rejects.toMatchObject({
      code: ErrorCode.NotStorable,
      stored: 'no',
      details: { path: 'data.not' },
    });
    await expect(streams.stream('flights').describe()).resolves.toBeUndefined();
  });

  it('what a method does to its messages changes its own copy and nothing else', async () => {
    interface Row {
      n?: number;
      nested: { list: number[] };
      at: Date;
    }
    const at = new Date(Date.UTC(2026, 0, 1));
    const row = (n: number): Row => ({ n, nested: { list: [n] }, at });
    const spoil = (data: Row): void => {
      data.nested.list.push(Number.NaN);
      data.at.setTime(0);
      delete data.n;
    };
    @Injectable()
    class Audit implements Sink<number> {
      readonly rows: Row[] = [];
      put(_: number, window: Window): void {
        for (const data of window.data as readonly Row[]) this.rows.push(structuredClone(data));
      }
    }
    @Injectable()
    class Spoiler {
      readonly rows: Row[] = [];
      readonly headers: unknown[] = [];
      isFixed = false;
      @Streaming<Row, typeof Audit>('rows', {
        size: 3,
        interval: '200ms',
        keep: true,
        sink: Audit,
        retry: { attempts: 2, backoff: '10ms', maxBackoff: '20ms' },
      })
      handle(window: Window<Row>): number {
        const isBad = window.data.some(({ n }) => n === 2);
        for (const { data, headers } of window.messages) {
          this.rows.push(structuredClone(data));
          this.headers.push({ ...headers });
          spoil(data);
          Object.assign(headers ?? {}, { from: 'handler' });
        }
        if (isBad && !this.isFixed) throw new Error('bad');
        return window.data.length;
      }
    }
    const { app, streams } = await boot(Spoiler, Audit);
    const stream = streams.stream<Row>('rows');
    await Promise.all([1, 2, 3].map((n) => stream.append(row(n), { headers: { from: 'producer' } })));
    await vi.waitUntil(async () => (await stream.stats()).deadLetters === 1, SOON);
    const letters: unknown[] = [];
    for await (const { data } of stream.deadLetters()) letters.push(data);
    expect(letters).toEqual([row(2)]);
    const spoiler = app.get(Spoiler);
    spoiler.isFixed = true;
    await stream.redrive();
    const audit = app.get(Audit);
    await vi.waitUntil(() => audit.rows.length === 3, SOON);
    expect(audit.rows.toSorted((a, b) => a.n! - b.n!)).toEqual([row(1), row(2), row(3)]);
    for (const seen of spoiler.rows) expect(seen).toEqual(row(seen.n!));
    for (const headers of spoiler.headers) expect(headers).toEqual({ from: 'producer' });
  });
});

// A MongoDB for tests takes no such text; `raw-copies.spec.ts` has what becomes of it there.
describe.each(['memory', 'lmdb', 'postgres'])('a message that cannot be decoded, on the %s store', (name) => {
  it('becomes a dead letter alone, is listed, and comes back as it was', async () => {
    const Taker = consumer(['rows'], 3);
    const app = await start({ imports: stores[name]?.() ?? [], providers: [Taker] });
    const streams = app.get(StreamService, { strict: false });
    const stream = streams.stream('rows');
    const store = app.get<StreamStore>('MINIBATCH_STREAM_STORE', { strict: false });
    await stream.append(1);
    await store.append([{ stream: 'rows', data: { x: new BrokenText() }, created: new Date() }]);
    await stream.append(2);
    const { windows } = app.get(Taker);
    await vi.waitUntil(() => windows.length === 1, SOON);
    expect([windows[0]?.data, windows[0]?.attempt]).toEqual([[1, 2], 1]);
    await vi.waitUntil(async () => (await stream.stats()).buffered === 0, SOON);
    const list = async () => {
      const letters: unknown[] = [];
      for await (const { data, undecodable, error } of stream.deadLetters()) letters.push([data, undecodable, error]);
      return letters;
    };
    const letter = [undefined, expect.stringContaining('UTF-8'), expect.stringContaining(ErrorCode.Undecodable)];
    expect(await list()).toEqual([letter]);
    expect(await stream.redrive()).toBe(1);
    await stream.flush();
    await vi.waitUntil(async () => (await list()).length === 1, SOON);
    expect(await list()).toEqual([letter]);
    expect(windows).toHaveLength(1);
  });
});

describe('what others have put into the collections', () => {
  @Injectable()
  class Taker {
    readonly seen: unknown[] = [];
    @Streaming('rows', { size: 1, keep: true })
    take(window: Window) {
      this.seen.push(...window.data);
    }
  }

  it('that is no message is passed over, counted and named, and stops nothing', async () => {
    const database = useDatabase();
    const buffer = (await database.connect()).collection<{ _id: unknown }>('buffer');
    const foreign = { stream: 'rows', processed: false, data: 'foreign' };
    await buffer.insertMany([
      { _id: 'text', created: new Date(), ...foreign },
      { _id: 17, created: new Date(), ...foreign },
      { _id: new ObjectId(), created: 5, ...foreign },
      { _id: new ObjectId(), ...foreign },
    ] as never);
    const log = new Log();
    const app = await start({ imports: [mongoose(database), MinibatchModule.forRoot()], providers: [Taker] }, log);
    const streams = app.get(StreamService, { strict: false });
    for (const n of [1, 2, 3]) await streams.append('rows', n);
    const { seen } = app.get(Taker);
    await vi.waitUntil(() => seen.length === 3, SOON);
    expect(seen).toEqual([1, 2, 3]);
    const status = app.get(StatusService, { strict: false });
    await vi.waitUntil(async () => (await streams.stream('rows').stats()).buffered === 0, SOON);
    const report = await status.stream('rows');
    expect(report.stored).toMatchObject({ buffered: 0, foreign: { documents: 4, example: expect.any(String) } });
    expect(report.consumers[0]?.local).not.toHaveProperty('lastError');
    expect((await status.health()).status).toBe('ok');
    expect(log.lines.filter((line) => line.includes('are not messages'))).toHaveLength(1);
  });

  it('comes to the handler in its order, and into kept windows to the byte', async () => {
    const database = useDatabase();
    const connection = await database.connect();
    const value = new Map<string, unknown>([
      ['10', new Double(2)],
      ['9', Long.fromString('9007199254740993')],
      ['nested', new Map([['_bsontype', 'Double']])],
      ['pattern', new BSONRegExp('(?P<name>x)')],
    ]);
    const headers = new Map([['n', new Int32(1)]]);
    await connection.collection('buffer').insertMany([
      { stream: 'rows', created: new Date(), data: value, processed: false, key: new Int32(5), headers },
      { stream: 'rows', created: new Date(), data: { n: 2 }, processed: false },
    ]);
    const raw = async (collection: string, filter: object) =>
      (await connection.collection(collection).find(filter, { raw: true }).toArray()) as unknown as Buffer[];
    const inserted = Buffer.concat(await raw('buffer', {}));
    const app = await start({ imports: [mongoose(database), MinibatchModule.forRoot()], providers: [Taker] });
    const { seen } = app.get(Taker);
    await vi.waitUntil(() => seen.length === 2, SOON);
    expect(seen[1]).toEqual({ n: 2 });
    await vi.waitUntil(async () => (await raw('window', { processed: true })).length === 2, SOON);
    const data = Buffer.from(serialize(value));
    expect(inserted.includes(data)).toBe(true);
    expect(Buffer.concat(await raw('window', { processed: true })).includes(data)).toBe(true);
  });
});
