import assert from 'node:assert/strict';
import { Code, Decimal128, MaxKey, MinKey, ObjectId, Timestamp, UUID } from 'bson';
import { BatchWindow } from '../../engine/batch-window.js';
import { ExecutorTask } from '../../engine/executor-task.js';
import { decodeTask, encodeTask } from '../../executors/task-codec.js';
import type { StoredMessage, StreamStore } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import { append, bury, hold, key, message, NOON, read, register, storePosition, STREAM } from './fixtures.js';

export function valuesContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('data', () => {
    it('keeps plain values', async () => {
      const values: unknown[] = [
        null,
        true,
        false,
        0,
        -1.5,
        2 ** 40,
        Number.MAX_SAFE_INTEGER,
        1e300,
        '',
        'ünï ✈ \u{1f6eb}',
        [],
        {},
        [[1, [null]], { a: { b: [{ c: 'd' }] } }],
        { n: null, e: '', z: 0, f: false },
        new Date(-1),
        new Date(Date.UTC(9999, 11, 31)),
      ];
      await context.store.append(values.map((data) => message(data)));
      assert.deepEqual(
        (await read(context.store)).map(({ data }) => data),
        values,
      );
    });

    it('gives bytes back as a Buffer of their own', async () => {
      const { store } = context;
      const bytes = [0, 1, 128, 255];
      const given = { buffer: Buffer.from(bytes), array: Uint8Array.from(bytes), empty: Buffer.alloc(0) };
      const back = (await roundTrip(store, given)) as typeof given;
      assert.deepEqual(back, { ...given, array: Buffer.from(bytes) });
      assert.ok(Buffer.isBuffer(back.array));
      back.buffer[0] = 7;
      const [again] = await read(store);
      assert.deepEqual((again!.data as typeof given).buffer, Buffer.from(bytes));
    });

    it('gives bigints back as bigints, and numbers as numbers', async () => {
      const values = [0n, 10n, -(2n ** 63n), 2n ** 53n + 1n, [1, 1n], { a: { b: [5n, 5] } }, 2 ** 53, 2 ** 40, -0];
      const { store } = context;
      await store.append(values.map((data) => message(data)));
      const back = (await read(store)).map(({ data }) => data);
      assert.deepStrictEqual(back, values);
    });

    it('hands messages to executors as bytes that decode to what `read` gives', async () => {
      const { store } = context;
      const values = [null, 'text', 5, 5n, 2 ** 53, -0, [1n, { a: [] }], new Date(0), Buffer.from([1])];
      const headers = { trace: 'abc', $h: '' };
      await append(store, ...values.map((data) => message(data)), message({ d: 1, k: 2 }, { key: 'SAT', headers }));
      const stored = await read(store);
      const executor = { name: 'none', run: () => Promise.reject(new Error('never called')) };
      const consumer = { label: 'Contract.take', stream: STREAM, group: key().group, workers: 1 };
      const record = { seq: 1, id: 'w', messageIds: [], created: new Date(NOON), attempt: 1, recoveries: 0 };
      const window = new BatchWindow(key(), record, stored, { signal: new AbortController().signal });
      const bound = { executor, consumer, encode: encodeTask };
      const task = new ExecutorTask(bound, () => undefined, window, 0, true, 0);
      assert.deepStrictEqual(
        decodeTask(task.encode()).messages,
        stored.map((each) => each.read()),
      );
    });

    it('keeps values of BSON that JavaScript has not', async () => {
      const back = (await roundTrip(context.store, {
        id: new ObjectId('65a000000000000000000001'),
        money: Decimal128.fromString('1.10'),
        time: new Timestamp({ t: 2, i: 1 }),
        uuid: new UUID('00112233-4455-4677-8899-aabbccddeeff'),
        code: new Code('f()'),
        min: new MinKey(),
        max: new MaxKey(),
      })) as Record<string, unknown>;
      // Of another copy of the package, perhaps: what they say counts, not their class.
      const tags = Object.values(back).map((value) => (value as { _bsontype: string })._bsontype);
      assert.deepEqual(tags, ['ObjectId', 'Decimal128', 'Timestamp', 'Binary', 'Code', 'MinKey', 'MaxKey']);
      assert.equal(String(back['id']), '65a000000000000000000001');
      assert.equal(String(back['money']), '1.10');
      assert.equal(String(back['time']), String(2 ** 33 + 1));
      assert.equal(String(back['uuid']), '00112233-4455-4677-8899-aabbccddeeff');
      assert.equal((back['code'] as Code).code, 'f()');
    });

    it('keeps regular expressions with the flags g, i and m', async () => {
      const list = [/a+\/b/, /ü/gim, /(?<n>x)/i];
      assert.deepEqual(await roundTrip(context.store, list), list);
    });

    for (const [name, reference] of REFERENCES) {
      it(`keeps an object with ${name} what it is, wherever it lies`, async () => {
        const { store } = context;
        await register(store, 'default');
        const holders = [reference, { below: reference }, [[reference]], JSON.parse(hidden(reference)) as unknown];
        const headers = { $ref: 'schema', $id: 'x', $db: '' };
        await store.append(holders.map((data) => message(data, { headers })));
        const messages = await read(store);
        assert.deepEqual(
          messages.map(({ data }) => text(data)),
          holders.map(text),
        );
        for (const { headers: back } of messages) assert.equal(text(back), text(headers));

        const lease = await hold(store);
        await bury(store, lease, messages);
        const letters = await store.deadLetters(STREAM, {}, undefined, 10);
        assert.deepEqual(
          letters.map(({ data }) => text(data)),
          holders.map(text),
        );
        for (const { headers: back } of letters) assert.equal(text(back), text(headers));
      });

      it(`keeps a position with ${name}`, async () => {
        const { store } = context;
        await store.ensureStream(STREAM);
        const position = { a: reference, n: 5n, bytes: Buffer.from([1]) };
        await storePosition(store, STREAM, 'source', position);
        const back = (await store.readCheckpoint(STREAM, 'source')) as typeof position;
        assert.deepStrictEqual(back, position);
        assert.equal(text(back.a), text(reference));
      });
    }

    it('keeps hostile keys what they are: keys', async () => {
      const text =
        '{"__proto__":{"polluted":true},"constructor":{"prototype":1},"$set":{"a":1},"a.b":2,"$where":"x","":3,"toString":4}';
      const back = await roundTrip(context.store, JSON.parse(text));
      assert.equal(JSON.stringify(back), text);
      assert.ok(Object.hasOwn(back as object, '__proto__'));
      assert.equal(({} as { polluted?: unknown }).polluted, undefined);
    });

    it('is decoded anew at each reading: what is done to one copy shows in no other', async () => {
      const { store } = context;
      const appended = () => ({
        list: [1, { deep: true }] as unknown[],
        at: new Date(NOON),
        bytes: Buffer.from([1, 2]),
      });
      await append(store, message(appended(), { key: 'k', headers: { h: 'v' } }));
      const [fetched] = await read(store);
      assert.ok(fetched);
      const spoil = (copy: Pick<StoredMessage, 'data' | 'created' | 'headers'>) => {
        const data = copy.data as Partial<ReturnType<typeof appended>>;
        data.list?.push('changed');
        data.at?.setTime(0);
        data.bytes?.fill(99);
        delete data.bytes;
        copy.created.setTime(0);
        if (copy.headers) (copy.headers as Record<string, string>)['h'] = 'changed';
      };
      const expected = { id: fetched.id, data: appended(), created: new Date(NOON), key: 'k', headers: { h: 'v' } };
      const check = (copy: ReturnType<StoredMessage['read']>) => assert.deepEqual(copy, expected);
      check(fetched.read());
      spoil(fetched.read());
      spoil(fetched);
      check(fetched.read());
      const [again] = await store.load(key(), [fetched.id]);
      assert.ok(again);
      check(again.read());
    });

    it('keeps a large message', async () => {
      const { store } = context;
      const text = 'x'.repeat(2 * 1024 * 1024);
      assert.equal(await roundTrip(store, text), text);
      assert.ok(store.maxMessageBytes > text.length);
    });
  });
}

async function roundTrip(store: StreamStore, data: unknown): Promise<unknown> {
  await append(store, message(data));
  const [stored] = await read(store);
  return stored?.data;
}

/** As the type of MongoDB that other objects refer to documents by, or nearly. */
const REFERENCES: readonly (readonly [string, object])[] = [
  ['$ref, $id and more', { $ref: 'schema', $id: 'x', type: 'object' }],
  ['$ref and $id in another order', { type: 'object', $id: 'x', $ref: 'schema' }],
  ['$ref with a dot', { $ref: 'definitions.flight', $id: 1 }],
  ['an empty $db', { $ref: 'schema', $id: 'x', $db: '' }],
  ['$db', { $ref: 'schema', $id: { $ref: 'a.b', $id: 5 }, $db: 'database' }],
  ['$ref alone', { $ref: '#/definitions/flight' }],
];

/** JSON of an object that has the value below a key that is nobody's prototype. */
function hidden(value: object): string {
  return `{"__proto__":${JSON.stringify(value)}}`;
}

/** Tells the order of keys, too. */
function text(value: unknown): string {
  return JSON.stringify(value);
}
