import { mongo } from 'mongoose';
import { beforeEach, describe, expect, it } from 'vitest';
import { keyOf, useStore, takeLease, RIVAL } from '../../../../../test/support/mongoose-store.js';
import type { Lease, SettledWindow } from '../stream-store.interface.js';
import { letterOf } from './dead-letters.spec.support.js';
import { toDeadLetter, toLetterInsert, toStoredDeadLetter } from './dead-letter-codec.js';
import { BufferMessage } from './buffer-message.js';
import { RawDocument } from './raw-document.js';
import { RawValue, sizeOf } from './raw-value.js';

const { BSONRegExp, Double, Int32, Long, Binary } = mongo.BSON;
const KEY = keyOf('flights');
const LIMITS = { messages: 1000, bytes: 2 ** 24 };

/** What comes back changed, or not at all, when JavaScript decodes and encodes it. */
const VALUES: readonly unknown[] = [
  { double: new Double(2), large: Long.fromString('9007199254740993'), small: new Int32(2), long: Long.fromNumber(2) },
  new Double(2),
  new Map<string, unknown>([
    ['b', 1],
    ['10', 2],
    ['9', 3],
  ]),
  new Map<string, unknown>([['nested', new Map([['_bsontype', 'Double']])]]),
  { $ref: 'y', $id: 1, type: 'object' },
  { $ref: '', $id: new Int32(1), $db: '' },
  { pattern: new BSONRegExp('(?P<name>x)', 'ims') },
  new BSONRegExp('(?P<name>x)'),
  { regexp: new BSONRegExp('a', 'lux') },
  new Binary(Buffer.from([1, 2, 3]), 0x80),
  [new Double(1), [new Double(2)]],
  { text: 'plain' },
  null,
];

describe('what is copied', () => {
  const test = useStore();
  let lease: Lease;
  beforeEach(async () => {
    lease = await takeLease(test.store, KEY);
  });

  const insert = (values: readonly unknown[], more: object = {}) =>
    test.connection.collection('buffer').insertMany(
      values.map((data) => ({ stream: 'flights', created: new Date(5), data, processed: false, ...more })),
      { ignoreUndefined: false },
    );

  /** A field of all documents of a collection, as hexadecimal digits. */
  async function bytesIn(collection: string, field: string): Promise<string[]> {
    const found = await test.connection
      .collection(collection)
      .find({}, { raw: true, sort: { _id: 1 } })
      .toArray();
    return (found as unknown as Buffer[]).map((bytes) => {
      const value = new RawDocument(bytes).find(field);
      if (!value) return 'absent';
      const [type, , , at, length] = value;
      return `${type}:${bytes.subarray(at, at + length).toString('hex')}`;
    });
  }

  it('to a dead letter and back again is the same to the byte', async () => {
    const headers = new Map<string, unknown>([
      ['10', 'a'],
      ['9', new Double(1)],
    ]);
    await insert(VALUES, { headers, key: new Double(1) });
    const [data, more, keys] = await Promise.all(['data', 'headers', 'key'].map((field) => bytesIn('buffer', field)));
    const { messages } = await test.store.fetch(KEY, undefined, LIMITS);
    await test.store.bury(
      lease,
      messages.map((message) => letterOf(message)),
    );
    expect(await bytesIn('deadletter', 'data')).toEqual(data);
    expect(await bytesIn('deadletter', 'headers')).toEqual(more);
    expect(await bytesIn('deadletter', 'key')).toEqual(keys);
    await test.connection.collection('buffer').deleteMany({});
    expect(await test.store.redrive('flights', {})).toBe(VALUES.length);
    expect(await bytesIn('buffer', 'data')).toEqual(data);
    expect(await bytesIn('buffer', 'headers')).toEqual(more);
    expect(await bytesIn('buffer', 'key')).toEqual(keys);
    expect(await bytesIn('buffer', 'created')).toEqual(VALUES.map(() => '9:0500000000000000'));
  });

  it('to a dead letter may be text that is none', async () => {
    const bytes = Buffer.from(
      mongo.BSON.serialize({ _id: new mongo.ObjectId(), created: new Date(5), data: { text: 'abc' } }),
    );
    bytes[bytes.indexOf('abc')] = 0xff;
    const message = new BufferMessage(new RawDocument(bytes));
    const { document, bytes: size } = toLetterInsert(lease, letterOf(message));
    const letter = new RawDocument(Buffer.from(mongo.BSON.serialize(document)));
    expect(letter.bytes.length).toBe(size);
    const [from, to] = [new RawDocument(bytes), letter].map((each) => mongo.BSON.serialize({ data: each.raw('data') }));
    expect(Buffer.from(to!).toString('hex')).toBe(Buffer.from(from!).toString('hex'));
    expect(toDeadLetter(toStoredDeadLetter(letter)!)).toMatchObject({
      data: undefined,
      undecodable: expect.stringContaining('UTF-8'),
    });
  });

  async function keep(held: Lease, { window, messages }: SettledWindow): Promise<void> {
    const groups = await test.store.commit(held, {
      finished: [window.seq],
      progress: { lastSeq: window.seq, windows: 1, messages: messages.length },
    });
    await test.store.settle(held, [{ window, messages }], { groups, keep: true });
  }

  const claimed = async (seq: number, from: number, to: number): Promise<SettledWindow> => {
    const { messages } = await test.store.fetch(KEY, undefined, LIMITS);
    const some = messages.slice(from, to);
    const window = {
      seq,
      id: `w${seq}`,
      messageIds: some.map(({ id }) => id),
      created: new Date(),
      attempt: 1,
      recoveries: 0,
    };
    return { window, messages: some };
  };

  /** The elements of the windows' `data`, one after the other. */
  async function keptData(): Promise<string[]> {
    const windows = await test.connection
      .collection('window')
      .find({ processed: true }, { raw: true, sort: { seq: 1 } })
      .toArray();
    return (windows as unknown as Buffer[]).flatMap((bytes) => {
      const [, , , at, length] = new RawDocument(bytes).find('data')!;
      const array = bytes.subarray(at, at + length);
      return [...mongo.BSON.onDemand.parseToElements(array)].map(
        ([type, , , from, size]) => `${type}:${array.subarray(from, from + size).toString('hex')}`,
      );
    });
  }

  it('into kept windows, alone or claimed together, is the same to the byte', async () => {
    await insert(VALUES);
    const data = await bytesIn('buffer', 'data');
    const alone = await claimed(1, 0, 4);
    await test.store.claim(lease, [alone.window]);
    const [second, third] = [await claimed(2, 4, 8), await claimed(3, 8, VALUES.length)];
    await test.store.claim(lease, [second.window, third.window]);
    for (const each of [alone, second, third]) await keep(lease, each);
    expect(await keptData()).toEqual(data);
    expect(await bytesIn('buffer', 'data')).toEqual(data);
  });

  it('into a kept window does not depend on a restart between the marks and the window', async () => {
    await insert(VALUES);
    const data = await bytesIn('buffer', 'data');
    const all = await claimed(1, 0, VALUES.length);
    await test.store.claim(lease, [all.window]);
    await test.store.commit(lease, {
      finished: [1],
      progress: { lastSeq: 1, windows: 1, messages: VALUES.length },
    });
    // The process dies when five have been marked: those are not read any more.
    const ghost = { ...all.window, seq: 99, messageIds: [] };
    await test.store.settle(lease, [{ window: ghost, messages: all.messages.slice(0, 5) }], {
      groups: ['default'],
      keep: true,
    });
    const heir = await takeLease(test.store, KEY, RIVAL);
    const { finished, groups } = await test.store.recover(heir);
    const messages = await test.store.load(KEY, finished[0]!.messageIds);
    expect(messages).toHaveLength(VALUES.length - 5);
    await test.store.settle(heir, [{ window: finished[0]!, messages }], { groups, keep: true });
    expect(await keptData()).toEqual(data);
  });

  it('into a kept window stays in the buffer alone above 15 MiB', async () => {
    // Both in one reply of a server, 16 MiB.
    await insert(['x'.repeat(7.9 * 2 ** 20), 'y'.repeat(7.9 * 2 ** 20)]);
    const all = await claimed(1, 0, 2);
    await test.store.claim(lease, [all.window]);
    await keep(lease, all);
    // Not the document itself: what is printed of it would be as long.
    expect(await test.connection.collection('window').countDocuments({ processed: true, data: { $size: 0 } })).toBe(1);
    expect(await test.connection.collection('buffer').countDocuments({ keep: true })).toBe(2);
  });

  it('is counted with its size', () => {
    const value = new RawValue(2, Buffer.from('05000000616263640000', 'hex').subarray(0, 9));
    const document = { _id: 'x', data: value, list: [value] };
    expect(sizeOf(document, [value, value])).toBe(mongo.BSON.serialize(document).length);
    expect(mongo.BSON.deserialize(mongo.BSON.serialize(document))).toEqual({ _id: 'x', data: 'abcd', list: ['abcd'] });
  });
});
