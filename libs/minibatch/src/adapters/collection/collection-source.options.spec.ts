import { createConnection } from 'mongoose';
import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { CollectionSource } from './collection.source.js';
import { resolveReading } from './collection-source.options.js';

describe('the options of CollectionSource', () => {
  const connection = createConnection();
  const ref = { connection, collection: 'orders' };

  it('have defaults', () => {
    expect(resolveReading('Feed', ref)).toMatchObject({
      mode: 'auto',
      operations: ['insert'],
      field: '_id',
      lookBack: 10_000,
      pollInterval: 1000,
      batch: 500,
      snapshot: true,
      onLostToken: 'fail',
      filter: {},
    });
    expect(resolveReading('Feed', { ...ref, field: 'at' }).mode).toBe('cursor');
  });

  it.each([
    [{}, /connection, collection, model/],
    [{ connection }, /connection, collection, model/],
    [{ collection: 'orders' }, /connection, collection, model/],
    [{ ...ref, model: { db: connection, collection: { name: 'a' } } }, /connection, collection, model/],
    [{ collection: connection.collection('orders') }, /a collection of the driver/],
    [{ ...ref, mode: 'tail' }, /mode is 'tail'; allowed: 'auto', 'changeStream', 'cursor'/],
    [{ ...ref, operations: ['delete'] }, /operations\[0\] is 'delete'/],
    [{ ...ref, operations: [] }, /operations/],
    [{ ...ref, mode: 'cursor', operations: ['update'] }, /field: 'updatedAt'/],
    [{ ...ref, field: 'at', operations: ['update'] }, /need a change stream/],
    [{ ...ref, field: 'at', mode: 'changeStream' }, /field is 'at'/],
    [{ ...ref, field: '$where' }, /the path of a field/],
    [{ ...ref, lookBack: -1 }, /lookBack is -1/],
    [{ ...ref, pollInterval: 1 }, /pollInterval is 1/],
    [{ ...ref, batch: 0 }, /batch is 0/],
    [{ ...ref, snapshot: 'no' }, /snapshot is 'no'/],
    [{ ...ref, onLostToken: 'ignore' }, /onLostToken is 'ignore'/],
    [{ ...ref, filter: { $expr: {} } }, /filter is '\$expr'/],
    [{ ...ref, filter: { $or: [{ $where: '1' }] } }, /filter is '\$where'/],
    [{ ...ref, filter: { $or: 1 } }, /filter\.\$or is 1/],
    [{ ...ref, projection: { a: 1, b: 0 } }, /projection is \[1, 0\]/],
    [{ ...ref, projection: { _id: 0 } }, /projection\._id/],
    [{ ...ref, map: 'n' }, /map is 'n'/],
    [{ ...ref, maps: 1 }, /unknown option 'maps'/],
  ])('%# refuse nonsense', (options, message) => {
    expect(() => new CollectionSource(options as never)).toThrow(
      expect.objectContaining({ code: ErrorCode.InvalidOptions, message: expect.stringMatching(message) }),
    );
  });

  it('take a function that finds the collection, asked at each start, with the signal that ends the search', async () => {
    const asked: unknown[] = [];
    const collection = async (signal?: AbortSignal) => {
      asked.push(signal);
      throw new Error('not yet');
    };
    const { open } = resolveReading('Feed', { connection, collection });
    const { signal } = new AbortController();
    for (let start = 0; start < 2; start += 1) await expect(open(signal)).rejects.toThrow('not yet');
    expect(asked).toEqual([signal, signal]);
    expect(() => resolveReading('Feed', { collection } as never)).toThrow(/connection, collection, model/);
  });

  it('say what a subclass has to do, and which one', () => {
    class OrderFeed extends CollectionSource {}
    expect(() => Reflect.construct(OrderFeed, [])).toThrow(/OrderFeed.*call super\(\{ connection/);
  });
});
