import { BSON } from 'bson';
import { describe, expect, it } from 'vitest';
import { keyFrom, keyOf, kindOf, slotOf, storedKey } from './slot.js';

const STRANGE = [
  'a',
  '',
  ' ',
  'a/b',
  '=a',
  '#a',
  '__proto__',
  'a\0b',
  '🙂'.repeat(40),
  '\ud800',
  '\udc00',
  'a\ud800',
  '\ufffd',
  'x'.repeat(128),
  'x'.repeat(129),
  'x'.repeat(10_000),
  `${'x'.repeat(9_999)}y`,
  'é'.normalize('NFD'),
  'é'.normalize('NFC'),
];

describe('a slot', () => {
  it('can be stored, whatever the key', () => {
    for (const key of STRANGE) {
      const slot = slotOf('w', key, -(2 ** 53), 2 ** 53);
      expect(slot.isWellFormed()).toBe(true);
      expect(slot).not.toContain('\0');
      expect(Buffer.byteLength(slot)).toBeLessThanOrEqual(256);
      expect(kindOf(slot)).toBe('w');
    }
  });

  it('is of one key, one kind and one number only', () => {
    const slots = STRANGE.flatMap((key) => [
      slotOf('w', key, 1),
      slotOf('w', key, 11),
      slotOf('w', key),
      slotOf('s', key),
    ]);
    expect(new Set(slots).size).toBe(slots.length);
    // A key that looks like what a long one becomes.
    expect(slotOf('w', slotOf('w', STRANGE[16] ?? '').slice(2))).not.toBe(slotOf('w', STRANGE[16] ?? ''));
    expect(slotOf('w', '1/=a')).not.toBe(slotOf('w', 'a', 1));
  });

  it('has the key in its row, which is the same when it is read', () => {
    for (const key of STRANGE) {
      const read = BSON.deserialize(BSON.serialize({ key: storedKey(key) }), { promoteBuffers: true });
      expect(keyFrom(read['key'])).toBe(key);
    }
  });
});

describe('keyOf', () => {
  it.each([
    ['a', 'a'],
    ['', ''],
    [1, '1'],
    [-0, '0'],
    [1.5, '1.5'],
    [12n, '12'],
    [Number.NaN, undefined],
    [Number.NEGATIVE_INFINITY, undefined],
    [undefined, undefined],
    [null, undefined],
    [true, undefined],
    [{}, undefined],
    [Symbol.iterator, undefined],
  ])('of %s is %s', (given, key) => {
    expect(keyOf(given)).toBe(key);
  });
});
