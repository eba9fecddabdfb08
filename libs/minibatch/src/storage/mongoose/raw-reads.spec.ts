import { mongo } from 'mongoose';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  appendAll,
  changedOnTheWay,
  keyOf,
  messageOf,
  useStore,
  type SendCommand,
} from '../../../../../test/support/mongoose-store.js';
import { BufferPages } from './blocks.js';
import type { Collections } from './collections.js';
import { BufferMessage } from './buffer-message.js';
import { RawDocument } from './raw-document.js';
import { findRaw } from './raw-reads.js';
import { GroupListVersions } from './group-list-versions.js';
import { Reads } from './reads.js';
import { Refusals } from './refusals.js';
import { SharedReads } from './shared-reads.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

const KEY = keyOf('flights');
type Buffered = mongo.Collection<BufferDocument>;

describe('undecoded reads', () => {
  const test = useStore();
  let buffer: Buffered;
  let ids: string[];
  beforeEach(async () => {
    buffer = test.connection.getClient().db(test.connection.name).collection<BufferDocument>('buffer');
    ids = await appendAll(
      test.store,
      Array.from({ length: 10 }, (_, n) => messageOf('flights', { n })),
    );
    test.commands();
  });

  const via = (change: (send: SendCommand) => SendCommand): Buffered => changedOnTheWay(buffer, change);
  /** No reply holds more than three documents, as if they were large. */
  const small = () =>
    via((send) => (command, options) => send('find' in command ? { ...command, batchSize: 3 } : command, options));
  const reads = (collection: Buffered) => {
    const collections = { buffer: collection } as unknown as Collections;
    const lists = new GroupListVersions();
    const pages = new BufferPages(collections, new Refusals());
    return new Reads(collections, pages, new SharedReads(pages, lists), lists);
  };

  it('say that there is more than fits into a reply, and leave no cursor open', async () => {
    const { documents, more } = await findRaw(small(), { filter: {}, sort: { _id: 1 }, limit: 8 });
    expect([documents.length, more]).toEqual([3, true]);
    expect(test.commands()).toEqual(['find', 'killCursors']);
    const all = await findRaw(buffer, { filter: {}, limit: 10 });
    expect([all.documents.length, all.more]).toEqual([10, false]);
    expect(test.commands()).toEqual(['find']);
  });

  it('end a fetch as full with what the reply held', async () => {
    const { messages, full } = await reads(small()).fetch(KEY, undefined, { messages: 8, bytes: 2 ** 20 });
    expect([messages.map(({ data }) => data), full]).toEqual([[{ n: 0 }, { n: 1 }, { n: 2 }], true]);
  });

  it('load what is asked for in as many replies as it takes', async () => {
    await buffer.updateOne({ _id: new mongo.ObjectId(ids[4]) }, { $set: { processed: true } });
    const wanted = [...ids.slice(0, 8), new mongo.ObjectId().toHexString()].toReversed();
    const loaded = await reads(small()).load(KEY, wanted);
    expect(loaded.map(({ data }) => data)).toEqual([7, 6, 5, 3, 2, 1, 0].map((n) => ({ n })));
  });

  it('are sent once more if the server was lost, and once only', async () => {
    const failing = (errors: unknown[]) =>
      via((send) => (command, options) => {
        const error = errors.shift();
        return error === undefined ? send(command, options) : Promise.reject(error as Error);
      });
    const reset = () => new mongo.MongoNetworkError('reset');
    const steppedDown = new mongo.MongoServerError({ code: 189, errmsg: 'stepped down' });
    const refused = new mongo.MongoServerError({ code: 13, errmsg: 'no' });
    const query = { filter: {}, limit: 10 };
    for (const lost of [reset(), steppedDown]) {
      expect((await findRaw(failing([lost]), query)).documents).toHaveLength(10);
    }
    await expect(findRaw(failing([reset(), reset()]), query)).rejects.toThrow('reset');
    await expect(findRaw(failing([refused]), query)).rejects.toThrow('no');
  });

  it('decode data of every type as they were given, when they are asked for', async () => {
    const data: unknown[] = [
      { nested: { list: [1, { deep: true }], at: new Date(1234567890123) } },
      ['a', { b: 1 }, { $ref: 'x', $id: 1 }],
      { $ref: 'other', $id: 1 },
      'text, ünïcode ✈',
      42,
      -1.5,
      2 ** 40,
      false,
      true,
      null,
      new Date(-1),
      '',
      {},
      [],
    ];
    await buffer.deleteMany({});
    await appendAll(
      test.store,
      data.map((each) => messageOf('flights', each)),
    );
    const { documents } = await findRaw(buffer, { filter: {}, sort: { _id: 1 }, limit: 100 });
    const messages = documents.map((bytes) => new BufferMessage(new RawDocument(bytes)));
    expect(messages.map((message) => message.data)).toEqual(data);
    for (const message of messages) expect(message.data).toBe(message.data);
  });

  it('do not hold on to the reply', async () => {
    const [bytes] = (await findRaw(buffer, { filter: {}, sort: { _id: 1 }, limit: 1 })).documents;
    if (!bytes) throw new Error('nothing read');
    const message = new BufferMessage(new RawDocument(bytes));
    bytes.fill(0);
    expect(message.data).toEqual({ n: 0 });
  });

  it('show data that are no valid text as an error of the message, not of the read', async () => {
    const [bytes] = (await findRaw(buffer, { filter: {}, limit: 1 })).documents;
    if (!bytes) throw new Error('nothing read');
    const broken = Buffer.from(mongo.BSON.serialize({ ...mongo.BSON.deserialize(bytes), data: { text: 'abc' } }));
    broken[broken.indexOf('abc')] = 0xff;
    const message = new BufferMessage(new RawDocument(broken));
    expect(message.id).toMatch(/^[0-9a-f]{24}$/);
    expect(() => message.data).toThrow(/UTF-8/);
  });
});
