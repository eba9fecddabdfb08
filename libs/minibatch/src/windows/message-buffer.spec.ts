import { describe, expect, it } from 'vitest';
import { message } from './driver.spec.support.js';
import { MessageBuffer } from './message-buffer.js';

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => message(from + i));
const values = (buffer: MessageBuffer) => buffer.messages.map(({ data }) => (data as { value: number }).value);

describe('MessageBuffer', () => {
  it('keeps the order of reading and counts messages and bytes', () => {
    const buffer = new MessageBuffer();
    buffer.push([message(3), message(1, { bytes: 50 })]);
    buffer.push([message(2)]);
    expect(values(buffer)).toEqual([3, 1, 2]);
    expect([buffer.length, buffer.bytes, buffer.first?.id]).toEqual([3, 250, 'm00000003']);
    expect(buffer.take(2)).toHaveLength(2);
    expect(buffer.take(99)).toHaveLength(3);
    expect(buffer.take(-1)).toEqual([]);
  });

  it('removes a prefix, and anything else, and ignores what is not there', () => {
    const buffer = new MessageBuffer();
    buffer.push(range(0, 10));
    buffer.remove(buffer.take(3));
    expect(values(buffer)).toEqual([3, 4, 5, 6, 7, 8, 9]);
    buffer.remove([message(8), message(4), message(77)]);
    expect(values(buffer)).toEqual([3, 5, 6, 7, 9]);
    expect(buffer.bytes).toBe(500);
    expect(buffer.get('m00000004')).toBeUndefined();
    expect(buffer.get('m00000009')?.id).toBe('m00000009');
    buffer.push(range(20, 22));
    expect(buffer.get('m00000021')?.id).toBe('m00000021');
    buffer.clear();
    expect([buffer.length, buffer.bytes, buffer.first, buffer.messages]).toEqual([0, 0, undefined, []]);
  });

  it('stays right while its array is compacted', () => {
    const buffer = new MessageBuffer();
    let next = 0;
    let out = 0;
    for (let round = 0; round < 300; round += 1) {
      buffer.push(range(next, (next += 20)));
      for (const { data } of buffer.take(19)) expect((data as { value: number }).value).toBe(out++);
      buffer.remove(buffer.take(19));
    }
    expect(values(buffer)).toEqual(range(out, next).map(({ data }) => data.value));
    expect(buffer.bytes).toBe(buffer.length * 100);
  });

  it('knows what it starts with, also after a removal', () => {
    const buffer = new MessageBuffer();
    buffer.push(range(0, 6));
    buffer.remove(buffer.take(2));
    const all = buffer.messages;
    expect(buffer.startsWith(all)).toBe(true);
    expect(buffer.startsWith(all.slice(0, 2))).toBe(true);
    expect(buffer.startsWith([])).toBe(true);
    expect(buffer.startsWith(all.slice(1, 3))).toBe(false);
    expect(buffer.startsWith(all.toReversed())).toBe(false);
    expect(buffer.startsWith([...all, message(6)])).toBe(false);
  });

  it('builds the list once, and a sorted list does not sort the buffer', () => {
    const buffer = new MessageBuffer();
    buffer.push([message(2), message(1)]);
    const list = buffer.messages;
    expect(buffer.messages).toBe(list);
    (list as unknown[]).reverse();
    buffer.push([message(3)]);
    expect(values(buffer)).toEqual([2, 1, 3]);
  });

  it('has room again after a removal', () => {
    const buffer = new MessageBuffer();
    buffer.push(range(0, 3));
    buffer.saturated = true;
    buffer.remove([message(9)]);
    expect(buffer.saturated).toBe(true);
    buffer.remove([message(1)]);
    expect(buffer.saturated).toBe(false);
  });

  it('counts what was passed over', () => {
    const buffer = new MessageBuffer();
    buffer.push(range(0, 10));
    buffer.remove([message(0), message(1)]);
    expect(buffer.passedOver).toBe(0);
    buffer.remove([message(4), message(6)]);
    expect(buffer.passedOver).toBe(3); // 2, 3, 5
    buffer.remove([message(3)]);
    expect(buffer.passedOver).toBe(2); // 2, 5
    buffer.remove([message(2)]);
    expect(buffer.passedOver).toBe(1);
    buffer.remove([message(5), message(7)]);
    expect(buffer.passedOver).toBe(0);
    buffer.push(range(10, 12));
    buffer.passOverAll();
    expect(buffer.passedOver).toBe(4); // 8 to 11
    buffer.remove([message(8)]);
    expect(buffer.passedOver).toBe(3);
    buffer.push(range(12, 16));
    buffer.remove(buffer.take(4));
    expect(buffer.passedOver).toBe(0); // None of 12 to 15 was passed over.
    buffer.remove(buffer.take(1));
    buffer.passOverAll();
    expect(buffer.passedOver).toBe(2);
    buffer.clear();
    expect(buffer.passedOver).toBe(0);
    buffer.push(range(0, 4));
    buffer.passOverAll();
    buffer.remove([message(0)]);
    buffer.remove([message(2)]);
    expect(buffer.passedOver).toBe(2); // 1, 3
  });

  it('has another version after every change that a strategy can see', () => {
    const buffer = new MessageBuffer();
    const versions = new Set([buffer.version]);
    const steps = [
      () => buffer.push([message(1)]),
      () => (buffer.now = 5),
      () => (buffer.complete = true),
      () => (buffer.saturated = true),
      () => (buffer.flushing = true),
      () => buffer.remove([message(1)]),
    ];
    for (const step of steps) {
      step();
      versions.add(buffer.version);
    }
    expect(versions.size).toBe(steps.length + 1);
    buffer.freeWorkers = 2;
    const { version } = buffer;
    buffer.now = 5;
    buffer.complete = true;
    buffer.saturated = false;
    buffer.flushing = true;
    buffer.freeWorkers = 1;
    buffer.push([]);
    buffer.remove([]);
    expect(buffer.version).toBe(version);
  });
});
