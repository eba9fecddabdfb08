import { mongo } from 'mongoose';
import { beforeEach, describe, expect, it } from 'vitest';
import { useStore } from '../../../../../test/support/mongoose-store.js';
import { Collections, collectionNames } from './collections.js';
import { insertOne, problemsOf, write, type WriteProblems } from './raw-writes.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

type Buffer = mongo.Collection<BufferDocument>;

type Insert = (buffer: Buffer, document: BufferDocument) => Promise<WriteProblems>;

async function insertByDriver(buffer: Buffer, document: BufferDocument): Promise<WriteProblems> {
  try {
    return await insertOne(buffer, document);
  } catch (error) {
    const problems = problemsOf(error);
    if (problems instanceof Error) throw problems;
    return problems;
  }
}

describe.each<[string, Insert]>([
  ['one document by the driver', insertByDriver],
  ['one document by a command', (buffer, document) => write(buffer, 'insert', [document])],
])('an insert of %s', (_, insert) => {
  const test = useStore();
  let buffer: Buffer;
  beforeEach(async () => {
    ({ buffer } = new Collections(test.connection, collectionNames()));
  });

  const document = (dedupeKey: string): BufferDocument => ({
    _id: new mongo.ObjectId(),
    stream: 'flights',
    created: new Date(),
    data: { gone: undefined },
    processed: false,
    dedupeKey,
  });

  it('says that the document is stored, with null for undefined', async () => {
    const sent = document('a');
    expect(await insert(buffer, sent)).not.toHaveProperty('writeErrors');
    expect(await buffer.findOne()).toEqual({ ...sent, data: { gone: null } });
  });

  it('says which index refused it', async () => {
    await insert(buffer, document('a'));
    const refused = { index: 0, code: 11_000, errmsg: expect.stringContaining('dedupeKey') as unknown };
    expect(await insert(buffer, document('a'))).toMatchObject({ writeErrors: [refused] });
    expect(await buffer.countDocuments()).toBe(1);
  });

  const failing = (error: Error): Buffer => {
    const fail = () => Promise.reject(error);
    return { collectionName: 'buffer', db: { command: fail }, insertOne: fail } as unknown as Buffer;
  };

  it('throws if the command is refused as a whole', async () => {
    const unauthorized = new mongo.MongoServerError({ ok: 0, code: 13, errmsg: 'not authorized' });
    await expect(insert(failing(unauthorized), document('a'))).rejects.toBe(unauthorized);
  });

  it('says that a majority has not acknowledged it', async () => {
    const result = { ok: 1, n: 1, writeConcernError: { code: 64, errmsg: 'waiting for replication timed out' } };
    expect(await insert(failing(new mongo.MongoWriteConcernError(result)), document('a'))).toEqual(result);
  });
});
