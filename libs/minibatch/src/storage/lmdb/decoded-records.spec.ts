import { describe, expect, it } from 'vitest';
import { DecodedRecords } from './decoded-records.js';
import { decodeConsumer, encodeRecord, NEW_CONSUMER } from './records.js';

const bytesOf = (counter: number) => encodeRecord({ ...NEW_CONSUMER, counter, finished: [1, 2] });

describe('DecodedRecords', () => {
  it('decodes again only what has changed, place by place', () => {
    const records = new DecodedRecords(decodeConsumer);
    const first = records.decode('1.1.0', bytesOf(1));
    expect(first).toMatchObject({ counter: 1, finished: [1, 2] });
    expect(records.decode('1.1.0', bytesOf(1))).toBe(first);
    expect(records.decode('1.2.0', bytesOf(1))).not.toBe(first);
    expect(records.decode('1.1.0', bytesOf(2))).toMatchObject({ counter: 2 });
    expect(records.decode('1.1.0', bytesOf(1))).toEqual(first);
  });

  it('gives what nobody can change for the next one', () => {
    const record = new DecodedRecords(decodeConsumer).decode('1.1.0', bytesOf(1));
    expect(() => (record.finished as number[]).push(3)).toThrow(TypeError);
    expect(() => Object.assign(record.progress, { windows: 7 })).toThrow(TypeError);
  });
});
