import { ObjectId } from 'bson';
import { describe, expect, it } from 'vitest';
import { documentOf } from './change-message.js';

describe('documentOf', () => {
  const id = new ObjectId('650000000000000000000001');
  const document = { _id: id, n: 1 };
  const event = (operationType: string, token: string) => ({
    _id: { _data: token },
    operationType,
    fullDocument: document,
    documentKey: { _id: id },
  });

  it('gives an insert during a snapshot the dedupe id that the snapshot gives the document', () => {
    expect(documentOf('shop.orders', event('insert', '82a'), true)).toEqual({
      document,
      dedupeId: 'shop.orders:650000000000000000000001',
    });
  });

  it('tells changes of one document apart, by the event', () => {
    const changes = [event('insert', '82'), event('update', '82a'), event('update', '82b'), event('replace', '82c')];
    const ids = changes.map((change) => documentOf('shop.orders', change, false)?.dedupeId);
    expect(ids).toEqual([
      'shop.orders:650000000000000000000001:insert:82',
      'shop.orders:650000000000000000000001:update:82a',
      'shop.orders:650000000000000000000001:update:82b',
      'shop.orders:650000000000000000000001:replace:82c',
    ]);
  });

  it('gives nothing for a document that is gone', () => {
    expect(documentOf('shop.orders', { ...event('update', '82a'), fullDocument: null }, false)).toBeUndefined();
    expect(documentOf('shop.orders', { _id: { _data: '82d' }, operationType: 'invalidate' }, false)).toBeUndefined();
  });
});
