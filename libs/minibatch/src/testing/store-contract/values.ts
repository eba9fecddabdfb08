import assert from 'node:assert/strict';
import { Long, ObjectId } from 'bson';
import type { StoredMessage, StreamStore } from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import { append, key, message, NOON, read } from './fixtures.js';

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

    it('keeps binary data', async () => {
      const bytes = [0, 1, 128, 255];
      const back = (await roundTrip(context.store, {
        buffer: Buffer.from(bytes),
        array: Uint8Array.from(bytes),
        empty: Buffer.alloc(0),
      })) as Record<string, unknown>;
      assert.deepEqual(bytesOf(back['buffer']), bytes);
      assert.deepEqual(bytesOf(back['array']), bytes);
      assert.deepEqual(bytesOf(back['empty']), []);
    });

    it('keeps 64 bit integers and ObjectIds', async () => {
      const id = new ObjectId();
      const back = (await roundTrip(context.store, {
        big: 2n ** 62n,
        long: Long.fromString('-9007199254740993'),
        id,
      })) as Record<string, unknown>;
      assert.equal(String(back['big']), String(2n ** 62n));
      assert.equal(String(back['long']), '-9007199254740993');
      assert.equal(String(back['id']), id.toHexString());
    });

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
      const appended = () => ({ list: [1, { deep: true }], at: new Date(NOON), bytes: Buffer.from([1, 2]) });
      await append(store, message(appended(), { key: 'k', headers: { h: 'v' } }));
      const [fetched] = await read(store);
      assert.ok(fetched);
      const spoil = (copy: Pick<StoredMessage, 'data' | 'created' | 'headers'>) => {
        const data = copy.data as Record<string, unknown>;
        (data['list'] as unknown[]).push('changed');
        (data['at'] as Date).setTime(0);
        const bytes = data['bytes'] as Uint8Array | { readonly buffer: Uint8Array };
        (bytes instanceof Uint8Array ? bytes : bytes.buffer)[0] = 99;
        delete data['bytes'];
        copy.created.setTime(0);
        if (copy.headers) (copy.headers as Record<string, string>)['h'] = 'changed';
      };
      const check = ({ data, ...rest }: ReturnType<StoredMessage['read']>) => {
        const { bytes, ...others } = data as Record<string, unknown>;
        const { bytes: _bytes, ...expected } = appended();
        assert.deepEqual(others, expected);
        assert.deepEqual(bytesOf(bytes), [1, 2]);
        assert.deepEqual(rest, { id: fetched.id, created: new Date(NOON), key: 'k', headers: { h: 'v' } });
      };
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

/** A store may give back a `Buffer`, a `Uint8Array` or BSON's `Binary`. */
function bytesOf(value: unknown): number[] {
  const binary = value as { _bsontype?: string; value?: () => Uint8Array };
  return [...(binary._bsontype === 'Binary' && binary.value ? binary.value() : (value as Uint8Array))];
}
