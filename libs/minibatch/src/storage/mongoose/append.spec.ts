import { mongo } from 'mongoose';
import { describe, expect, it } from 'vitest';
import {
  appendAll,
  dataOf,
  keyOf,
  messageOf,
  openStore,
  useStore,
} from '../../../../../test/support/mongoose-store.js';
import { whereSupported } from '../../../../../test/support/server-differences.js';
import { AppendError, ErrorCode } from '../../errors/minibatch.error.js';
import type { CheckpointError } from '../checkpoints.js';
import type { AppendOutcome, Checkpoint } from '../stream-store.interface.js';
import { MAX_DOCUMENT_MESSAGE_BYTES } from './message-limit.js';

const KEY = keyOf('flights');

function codeOf(outcome: AppendOutcome | undefined): string | undefined {
  return outcome?.status === 'failed' && outcome.error instanceof AppendError ? outcome.error.code : outcome?.status;
}

describe('append', () => {
  const test = useStore();

  it('gives hostile data back as they were', async () => {
    const data: unknown[] = [
      { $set: { a: 1 } },
      { 'a.b': 1, 'c.$.d': 2 },
      JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1}'),
      { '': 1 },
      { $ref: 'other', $id: 1, $db: 'x', more: { $ref: 'a', $id: [1] } },
      { $oid: '000000000000000000000000', $date: 'x' },
      [1, [2, null], 'x'],
      'text',
      0,
      false,
      null,
      Number.NaN,
      new Date(0),
    ];
    await appendAll(
      test.store,
      data.map((item) => messageOf('flights', item)),
    );
    expect(await dataOf(test.store, KEY)).toStrictEqual(data);
  });

  it('refuses what only its key or a header makes too large, however small its data were counted', async () => {
    const large = 'x'.repeat(MAX_DOCUMENT_MESSAGE_BYTES);
    const outcomes = await test.store.append([
      messageOf('flights', 1, { bytes: 4, key: large }),
      messageOf('flights', 2, { bytes: 4, headers: { h: large } }),
      messageOf('flights', 3, { bytes: 4, key: 'k', headers: { h: 'v' } }),
    ]);
    expect(outcomes.map(codeOf)).toEqual([ErrorCode.MessageTooLarge, ErrorCode.MessageTooLarge, 'stored']);
  });

  it('refuses one message for what is in it, and stores the others', async () => {
    const { store } = test;
    const outcomes = await store.append([
      messageOf('flights', 1),
      messageOf('flights', { 'a\0b': 1 }),
      messageOf('flights', { _bsontype: 'Nonsense' }),
      messageOf('flights', 2, { headers: { 'x\0': 'y' } }),
      messageOf('flights', 'x'.repeat(MAX_DOCUMENT_MESSAGE_BYTES)),
      messageOf('flights', 3),
    ]);
    expect(outcomes.map(codeOf)).toEqual([
      'stored',
      ErrorCode.NotStorable,
      ErrorCode.NotStorable,
      ErrorCode.NotStorable,
      ErrorCode.MessageTooLarge,
      'stored',
    ]);
    expect(await dataOf(store, KEY)).toEqual([1, 3]);
  });

  it('stores a message of the largest size, and lets it be marked', async () => {
    const { store, connection } = test;
    const envelope = mongo.BSON.calculateObjectSize({
      _id: new mongo.ObjectId(),
      stream: 'flights',
      created: new Date(),
      data: '',
      processed: false,
    });
    const [id] = await appendAll(store, [messageOf('flights', 'x'.repeat(store.maxMessageBytes - envelope))]);
    await connection.collection('buffer').updateOne({}, { $set: { waits: ['other', 'default'] } });
    const [message] = await store.load(KEY, [id ?? '']);
    expect(message?.bytes).toBeGreaterThan(store.maxMessageBytes);
  });

  it('splits a call into commands and keeps its order', async () => {
    const { store, commands } = test;
    const ids = await appendAll(
      store,
      Array.from({ length: 2500 }, (_, i) => messageOf('flights', i)),
    );
    expect(commands()).toEqual(['insert', 'insert', 'insert']);
    expect(ids).toEqual(ids.toSorted());
    expect(await dataOf(store, KEY)).toEqual(Array.from({ length: 2500 }, (_, i) => i));

    await appendAll(
      store,
      Array.from({ length: 3 }, () => messageOf('big', 'x'.repeat(7 * 2 ** 20))),
    );
    expect(commands().filter((name) => name === 'insert')).toHaveLength(2);
  });

  it('acknowledges and ignores a dedupe id that was seen, also within one call', async () => {
    const { store, connection } = test;
    const twice = await store.append([
      messageOf('flights', 1, { dedupeId: 'a' }),
      messageOf('flights', 2, { dedupeId: 'a' }),
      messageOf('flights', 3),
      messageOf('other', 4, { dedupeId: 'a' }),
    ]);
    expect(twice.map(codeOf)).toEqual(['stored', 'duplicate', 'stored', 'stored']);
    expect((await store.append([messageOf('flights', 5, { dedupeId: 'a' })])).map(codeOf)).toEqual(['duplicate']);
    expect(await dataOf(store, KEY)).toEqual([1, 3]);
    expect(await connection.collection('buffer').countDocuments()).toBe(3);
  });

  it('finds its own messages again when the answer was lost', async () => {
    const { store, connection } = test;
    const stub = loseAnswers(connection.db!, 1);
    const outcomes = await store.append([
      messageOf('flights', 1),
      messageOf('flights', 2, { dedupeId: 'a' }),
      messageOf('flights', 3, { dedupeId: 'a' }),
    ]);
    stub.restore();
    expect(stub.lost).toBe(1);
    expect(outcomes.map(codeOf)).toEqual(['stored', 'stored', 'duplicate']);
    expect(await dataOf(store, KEY)).toEqual([1, 2]);
  });

  it('says that it does not know when the answer is lost again, and sends no more', async () => {
    const { store, connection } = test;
    const stub = loseAnswers(connection.db!, 2);
    const outcomes = await store.append(Array.from({ length: 1000 }, (_, i) => messageOf('flights', i)));
    stub.restore();
    const errors = outcomes.map((outcome) => (outcome.status === 'failed' ? outcome.error : undefined));
    expect(errors[0]).toBeInstanceOf(AppendError);
    expect((errors[0] as AppendError).stored).toBe('unknown');
    expect((errors[999] as AppendError).stored).toBe('no');
    expect(await dataOf(store, KEY)).toHaveLength(999);
  });

  describe('positions', () => {
    const position = (place: Partial<Checkpoint> & { position: unknown }): Checkpoint => ({
      stream: 'flights',
      source: 'kafka.topic$1',
      from: 0,
      to: 1,
      ...place,
    });

    it('are stored after the messages, by one command for each source', async () => {
      const { store, commands } = test;
      for (const stream of ['flights', 'other']) await store.ensureStream(stream);
      commands();
      const messages = [1, 2, 3].map((data) => messageOf('flights', data));
      await store.append(messages, {
        checkpoints: [
          position({ position: { offset: 1 } }),
          position({ position: 'a', stream: 'other' }),
          position({ position: { offset: 2 }, to: 3 }),
        ],
      });
      expect(commands()).toEqual(['insert', 'update', 'update']);
      expect(await store.readCheckpoint('flights', 'kafka.topic$1')).toEqual({ offset: 2 });
      expect(await store.readCheckpoint('flights', 'kafka')).toBeUndefined();
      expect(await store.readCheckpoint('other', 'kafka.topic$1')).toBe('a');
    });

    it('that can not be stored are named, and no other is touched', async () => {
      const { store } = test;
      const bad = position({ source: 'bad', position: { 'a\0': 1 }, to: 2 });
      const error: unknown = await store
        .append([messageOf('flights', 1), messageOf('flights', 2)], {
          checkpoints: [position({ position: 1 }), bad, position({ source: 'small', position: 2, from: 1, to: 2 })],
        })
        .catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: ErrorCode.CheckpointFailed, details: { checkpoints: [{ source: 'bad' }] } });
      expect((error as CheckpointError).outcomes.map(codeOf)).toEqual(['stored', 'stored']);
      expect((error as CheckpointError).failed.map(({ checkpoint }) => checkpoint)).toEqual([bad]);
      expect(await dataOf(store, KEY)).toEqual([1, 2]);
      expect(await store.readCheckpoint('flights', 'kafka.topic$1')).toBe(1);
      expect(await store.readCheckpoint('flights', 'small')).toBe(2);
      expect(await store.readCheckpoint('flights', 'bad')).toBeUndefined();
    });

    whereSupported('transactions', () => {
      it('come and go with the transaction of the application', async () => {
        const { store, connection } = test;
        await store.ensureStream('flights');
        const session = await connection.startSession();
        session.startTransaction();
        await store.append([messageOf('flights', 1)], { session, checkpoints: [position({ position: 1 })] });
        await session.abortTransaction();
        expect(await store.readCheckpoint('flights', 'kafka.topic$1')).toBeUndefined();
        await connection.transaction(async (own) => {
          await store.append([messageOf('flights', 2)], { session: own, checkpoints: [position({ position: 2 })] });
        });
        expect(await store.readCheckpoint('flights', 'kafka.topic$1')).toBe(2);
        expect(await dataOf(store, KEY)).toEqual([2]);
        await session.endSession();
      });
    });
  });

  it('asks for a majority whatever the connection says', async () => {
    const { store, connection, dispose } = await openStore({
      connect: { writeConcern: { w: 1 }, readPreference: 'secondaryPreferred', ignoreUndefined: true },
    });
    const concerns: unknown[] = [];
    connection.getClient().on('commandStarted', ({ command }) => concerns.push(command['writeConcern']));
    await appendAll(store, [messageOf('flights', { a: undefined })]);
    expect(concerns).toEqual([expect.objectContaining({ w: 'majority' })]);
    expect(await dataOf(store, KEY)).toEqual([{ a: null }]);
    await dispose();
  });

  it('refuses what is no session', async () => {
    await expect(test.store.append([messageOf('flights', 1)], { session: {} })).rejects.toMatchObject({
      code: ErrorCode.InvalidOptions,
    });
  });

  whereSupported('transactions', () => {
    it('joins a transaction', async () => {
      const { store, connection } = test;
      await appendAll(store, [messageOf('flights', 0, { dedupeId: 'seen' })]);
      const session = await connection.startSession();
      session.startTransaction();
      const outcomes = await store.append([messageOf('flights', 1), messageOf('flights', 2, { dedupeId: 'seen' })], {
        session,
      });
      expect(outcomes.map(codeOf)).toEqual(['stored', 'duplicate']);
      expect(await dataOf(store, KEY)).toEqual([0]);
      await session.abortTransaction();
      expect(await dataOf(store, KEY)).toEqual([0]);
      await connection.transaction(async (own) => {
        await connection.collection('orders').insertOne({ a: 1 }, { session: own });
        await store.append([messageOf('flights', 3)], { session: own });
      });
      expect(await dataOf(store, KEY)).toEqual([0, 3]);
      await session.endSession();
    });
  });
});

/** Lets inserts into the buffer have their effect, and loses the answer of the next `times`. */
function loseAnswers(db: mongo.Db, times: number) {
  const prototype = Object.getPrototypeOf(db) as mongo.Db;
  const original = prototype.command;
  const stub = { lost: 0, restore: () => void (prototype.command = original) };
  prototype.command = async function (this: mongo.Db, command: mongo.Document, ...rest: never[]) {
    const lose = command['insert'] === 'buffer' && stub.lost < times;
    if (lose) stub.lost += 1;
    try {
      const result = await original.call(this, command, ...rest);
      if (!lose) return result;
    } catch (error) {
      if (!lose) throw error;
    }
    throw new mongo.MongoNetworkError('the connection was closed');
  };
  return stub;
}
