import { ObjectId } from 'bson';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../common/clock.js';
import { createWatermark } from './watermark.js';

class HandClock implements Clock {
  time = Date.UTC(2024, 0, 1);
  now = () => this.time;
  monotonic = () => this.time;
  schedule(): never {
    throw new Error('nothing here waits');
  }
}

describe('a watermark', () => {
  let clock: HandClock;

  beforeEach(() => {
    clock = new HandClock();
  });

  const secondsOf = (mark: unknown) => (mark as ObjectId).getTimestamp().getTime();
  const newId = (time: number) => new ObjectId(Math.floor(time / 1000).toString(16) + 'ffffffffff000000');

  it('of ObjectIds is a look-back below the newest one, at the beginning of a second', () => {
    const mark = createWatermark('objectId', 10_000, clock).observe(newId(clock.time));
    expect(secondsOf(mark)).toBe(clock.time - 10_000);
    expect((mark as ObjectId).toHexString().slice(8)).toBe('0'.repeat(16));
  });

  it('comes closer while no newer one comes, and reaches it a second after the look-back', () => {
    const watermark = createWatermark('objectId', 10_000, clock);
    const newest = newId(clock.time);
    watermark.observe(newest);
    const since = clock.time;
    clock.time = since + 4000;
    expect(secondsOf(watermark.observe(newest))).toBe(since - 6000);
    // Another id of the same second may be smaller.
    clock.time = since + 10_999;
    expect((watermark.observe(newest) as ObjectId).toHexString().slice(8)).toBe('0'.repeat(16));
    clock.time = since + 11_000;
    expect(watermark.observe(newest)).toBe(newest);
  });

  it('starts again with each newer one', () => {
    const watermark = createWatermark('objectId', 10_000, clock);
    watermark.observe(newId(clock.time));
    clock.time += 60_000;
    expect(secondsOf(watermark.observe(newId(clock.time)))).toBe(clock.time - 10_000);
  });

  it('never goes beyond the present, whatever a writer believes', () => {
    const watermark = createWatermark('date', 10_000, clock);
    const future = new Date(clock.time + 3_600_000);
    expect(watermark.observe(future)).toEqual(new Date(clock.time - 10_000));
    clock.time += 60_000;
    expect(watermark.observe(future)).toEqual(new Date(clock.time - 10_000));
  });

  it('of old documents lets the position advance almost to their end at once', () => {
    const old = new Date(clock.time - 86_400_000);
    expect(createWatermark('date', 10_000, clock).observe(old)).toEqual(new Date(old.getTime() - 10_000));
  });

  it('of values that are no times is the newest one of a look-back ago', () => {
    const watermark = createWatermark('number', 10_000, clock);
    expect(watermark.observe(5)).toBeUndefined();
    clock.time += 6000;
    expect(watermark.observe(8)).toBeUndefined();
    clock.time += 4000;
    expect(watermark.observe(9)).toBe(5);
    clock.time += 6000;
    expect(watermark.observe(9)).toBe(8);
    clock.time += 60_000;
    expect(watermark.observe(9)).toBe(9);
  });
});
