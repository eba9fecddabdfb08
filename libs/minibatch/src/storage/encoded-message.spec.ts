import { describe, expect, it } from 'vitest';
import {
  asRedriven,
  asReplayed,
  decodeMessage,
  dedupeIdOf,
  encodeMessage,
  isIntact,
  isReplayed,
  originalOf,
} from './encoded-message.js';

describe('the copy of a kept message', () => {
  const encoded = encodeMessage({
    stream: 's',
    data: { o: 1.5, list: [{ o: 2n }] },
    created: new Date(5),
    key: 'k',
    headers: { o: 'h' },
    dedupeId: 'd',
  });

  it('names the original, also after a redrive, and is otherwise the same message without its dedupe id', () => {
    const copy = asReplayed(encoded, 7);
    for (const each of [copy, asRedriven(copy)]) {
      expect(originalOf(each)).toBe(7);
      expect([isIntact(each), isReplayed(each), dedupeIdOf(each)]).toEqual([true, true, undefined]);
      expect(decodeMessage('1', each).read()).toEqual(decodeMessage('1', encoded).read());
    }
    expect(originalOf(encoded)).toBeUndefined();
    expect(originalOf(asRedriven(encoded))).toBeUndefined();
  });

  it('names the original of an empty document, which is the shortest there is', () => {
    const head = encoded.subarray(0, 9);
    for (const empty of [
      encodeMessage({ stream: 's', data: {}, created: new Date(5) }),
      Buffer.concat([head, Buffer.from([5, 0, 0, 0, 0])]),
    ]) {
      const copy = asReplayed(empty, 7);
      expect([isReplayed(copy), originalOf(copy)]).toEqual([true, 7]);
      expect(decodeMessage('1', copy).read()).toEqual(decodeMessage('1', empty).read());
    }
  });

  it('leaves damaged data as they are, and names nothing then', () => {
    for (const damaged of [encoded.subarray(0, encoded.length - 1), encoded.subarray(0, 12)]) {
      const copy = asReplayed(damaged, 7);
      expect(copy.subarray(1)).toEqual(damaged.subarray(1));
      expect([isReplayed(copy), originalOf(copy)]).toEqual([true, undefined]);
    }
  });

  it('may be one that an earlier version has made, which does not name it', () => {
    for (const data of [1.5, { o: 1.5 }, [1.5], 'o']) {
      const copy = asRedriven(encodeMessage({ stream: 's', data, created: new Date(5) }));
      copy[0]! |= 4;
      expect([isReplayed(copy), originalOf(copy)]).toEqual([true, undefined]);
    }
  });
});
