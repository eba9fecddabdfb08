import { ObjectId } from 'bson';
import { describe, expect, it } from 'vitest';
import { dedupeId } from './dedupe-id.js';

describe('dedupeId', () => {
  it('names the collection and the document', () => {
    expect(dedupeId('shop.orders', new ObjectId('650000000000000000000001'))).toBe(
      'shop.orders:650000000000000000000001',
    );
  });

  it('tells ids apart that look alike', () => {
    const ids = [1, '1', true, 'true', null, 'null', { a: 1 }, '{"a":1}', '650000000000000000000001'];
    const made = [...ids, new ObjectId('650000000000000000000001')].map((id) => dedupeId('shop.orders', id));
    expect(new Set(made).size).toBe(ids.length + 1);
  });

  it('stays within what stores accept', () => {
    const [long, other] = ['a', 'b'].map((end) => dedupeId('shop.orders', 'x'.repeat(2000) + end));
    expect(long).not.toBe(other);
    expect(long?.length).toBeLessThan(512);
    expect(dedupeId('shop.orders', 'with \0 in it')).not.toContain('\0');
  });
});
