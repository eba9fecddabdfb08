import { Long, ObjectId, Timestamp } from 'bson';
import { describe, expect, it } from 'vitest';
import { type CollectionPosition, decodePosition, encodePosition } from './position.js';

describe('a position', () => {
  const id = new ObjectId();
  const positions: CollectionPosition[] = [
    { mode: 'changeStream', start: { startAfter: { _data: '8265' } } },
    { mode: 'changeStream', start: { startAtOperationTime: new Timestamp({ t: 1_700_000_000, i: 3 }) } },
    { mode: 'snapshot', start: { startAfter: { _data: '8265' } } },
    { mode: 'snapshot', start: { startAfter: { _data: '8265' } }, from: id },
    { mode: 'cursor', field: '_id' },
    ...[id, new Date(), 5, 1.5, 'text', Long.fromString('9007199254740993')].map((from) => ({
      mode: 'cursor' as const,
      field: 'at',
      from,
      skip: { ids: ['shop.orders:1'], upTo: from },
    })),
  ];

  it.each(positions)('comes back from plain data: %o', (position) => {
    const stored: unknown = JSON.parse(JSON.stringify(encodePosition('shop.orders', position)));
    expect(stored).toMatchObject({ v: 1, collection: 'shop.orders' });
    expect(decodePosition('Feed', 'shop.orders', stored)).toEqual(position);
  });
});
