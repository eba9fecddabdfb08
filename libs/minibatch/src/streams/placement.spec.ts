import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../testing/virtual-clock.js';
import { partitionOfKey } from '../storage/partitions.js';
import type { NewMessage } from '../storage/stream-store.interface.js';
import { Placement } from './placement.js';

const created = new Date(0);

function messages(...keys: (string | undefined)[]): NewMessage[] {
  return keys.map((key) => ({ stream: 's', data: 1, created, ...(key === undefined ? {} : { key }) }));
}

function placed(placement: Placement, given: readonly NewMessage[]): (number | undefined)[] {
  placement.place(given);
  return given.map(({ partition }) => partition);
}

describe('Placement', () => {
  it('puts a key into the same partition always, by the CRC-32 of its UTF-8', () => {
    // Computed with zlib.crc32 of Python.
    expect(['', 'a', 'UA-42', 'Zürich', '航班'].map((key) => partitionOfKey(key, 1_000_000))).toEqual([
      0, 355_907, 20_026, 756_798, 676_618,
    ]);
    const placement = new Placement(new VirtualClock(), () => 8);
    expect(placed(placement, messages('a', 'UA-42'))).toEqual([3_904_355_907 % 8, partitionOfKey('UA-42', 8)]);
  });

  it('puts messages without a key into one partition a write, in turn', () => {
    const placement = new Placement(new VirtualClock(), () => 3);
    const writes = Array.from({ length: 6 }, () => placed(placement, messages(undefined, 'k', undefined)));
    const unkeyed = writes.map(([first, key, last]) => {
      expect([key, last]).toEqual([partitionOfKey('k', 3), first]);
      return first;
    });
    expect(new Set(unkeyed.slice(0, 3))).toEqual(new Set([0, 1, 2]));
    expect(unkeyed.slice(3)).toEqual(unkeyed.slice(0, 3));
  });

  it('decides by the time when the write is sent, for each stream', () => {
    const clock = new VirtualClock(1_000);
    const placement = new Placement(clock, (stream, time) => (stream === 's' && time >= 2_000 ? 8 : 1));
    const given = messages('UA-42');
    expect(placed(placement, given)).toEqual([undefined]);
    clock.jump(1_000);
    // Tried again.
    expect(placed(placement, given)).toEqual([partitionOfKey('UA-42', 8)]);
    expect(placed(placement, [{ ...given[0]!, stream: 'other' }])).toEqual([undefined]);
  });
});
