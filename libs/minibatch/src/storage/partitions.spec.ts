import { describe, expect, it } from 'vitest';
import { mismatchOf } from './partitions.js';
import type { StreamInfo } from './stream-store.interface.js';

const stored: StreamInfo = {
  name: 'orders',
  status: 'open',
  created: new Date(0),
  groups: [],
  paused: false,
  flushes: 0,
  partitions: 8,
};

describe('a definition that says another number of partitions than is stored', () => {
  it.each([
    ['is expected of a version from before a growth', 4, true, 'let the next version declare { partitions: 8 }'],
    ['is expected of a version that knew one', 1, true, 'let the next version declare { partitions: 8 }'],
    ['is a mistake if the stream can not have grown from it', 6, false, 'declare { partitions: 8 }'],
    ['is to be followed by a growth', 16, false, 'call stream.grow(16)'],
    ['is a mistake if the stream can not grow to it', 12, false, 'it can only grow to a multiple of 8'],
  ])('%s', (_, declared, isExpected, text) => {
    expect(mismatchOf(stored, declared)).toEqual({ isExpected, text: expect.stringContaining(text) });
  });

  it('is no such thing if it is the same, or says nothing', () => {
    expect(mismatchOf(stored, 8)).toBeUndefined();
    expect(mismatchOf(stored, undefined)).toBeUndefined();
  });
});
