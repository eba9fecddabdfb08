import { describe, expect, it } from 'vitest';
import { type Look, timeOf, Watermark, type WatermarkOptions, type WatermarkState } from './watermark.js';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const NOON = Date.UTC(2026, 0, 1, 12);

/** A clock that is right, unless it is said to be wrong. */
const at = (ms: number, wrongBy = 0): Look => ({ now: NOON + ms + wrongBy, monotonic: ms });
const mark = (state?: WatermarkState, options?: Partial<WatermarkOptions>) =>
  new Watermark({ mode: 'event', wait: 5 * MINUTE, idle: 'advance', maxAhead: MINUTE, ...options }, state);
const past = (watermark: Watermark) => watermark.value - NOON;

describe('the mark of event time', () => {
  it('follows the latest time, and goes on with the clock while nothing comes', () => {
    // The system's time, the time of what comes, and the mark then.
    const rows = [
      ['10:32', '10:35', '10:30'],
      ['10:33', undefined, '10:31'],
      ['10:34', '10:38', '10:33'],
      ['10:36', '10:39', '10:35'],
      ['10:38', '10:36', '10:37'],
    ] as const;
    const minute = (text: string) => (Number(text.slice(0, 2)) * 60 + Number(text.slice(3))) * MINUTE;
    const watermark = mark(undefined, { maxAhead: 10 * MINUTE });
    for (const [system, item, expected] of rows) {
      const look: Look = { now: minute(system), monotonic: minute(system) };
      watermark.rest(look);
      if (item) {
        const reading = watermark.read(minute(item), look);
        if (system === '10:38') expect(reading.mark).toBe(minute('10:37'));
      }
      watermark.rest(look);
      expect(watermark.value, system).toBe(minute(expected));
    }
  });

  it('judges each message by those before it, not by its batch', () => {
    const watermark = mark(undefined, { wait: 2 });
    const marks = [10, 13, 9, 20].map((time) => watermark.read(NOON + time, at(0)).mark - NOON);
    expect(marks).toEqual([-Infinity, 8, 11, 11]);
    expect(watermark.state).toEqual({ mark: NOON + 18, max: NOON + 20 });
  });

  it('stands still in a backlog: what has not been read is not late', () => {
    const watermark = mark();
    watermark.read(NOON, at(0));
    watermark.rest(at(0));
    watermark.rest(at(MINUTE));
    expect(past(watermark)).toBe(-4 * MINUTE);
    watermark.busy();
    watermark.read(NOON, at(10 * MINUTE));
    watermark.rest(at(10 * MINUTE));
    expect(past(watermark)).toBe(-4 * MINUTE);
    watermark.rest(at(11 * MINUTE));
    expect(past(watermark)).toBe(-3 * MINUTE);
  });

  it('goes on however often it is asked', () => {
    const watermark = mark(undefined, { wait: 0 });
    watermark.read(NOON, at(0));
    for (let ms = 0; ms <= 1000; ms += 0.3) watermark.rest(at(ms));
    expect(past(watermark)).toBe(999);
  });

  it('waits for messages with idle: hold', () => {
    const watermark = mark(undefined, { idle: 'hold' });
    watermark.read(NOON, at(0));
    watermark.rest(at(0));
    watermark.rest(at(DAY));
    expect(past(watermark)).toBe(-5 * MINUTE);
  });

  it('is not moved by a message from the future, which counts as arrived now', () => {
    const watermark = mark();
    expect(watermark.read(NOON + MINUTE, at(0)).time).toBe(NOON + MINUTE);
    expect(watermark.read(NOON + DAY, at(30)).time).toBe(NOON + 30);
    expect(watermark.state).toEqual({ mark: NOON - 4 * MINUTE, max: NOON + MINUTE });
  });

  it('is moved by nothing before the first message', () => {
    const watermark = mark();
    watermark.rest(at(0));
    watermark.rest(at(DAY));
    expect(watermark.value).toBe(-Infinity);
    expect(watermark.state).toEqual({});
  });

  it('goes on where it was stored, and waits anew before it goes on with the clock', () => {
    const watermark = mark({ mark: NOON, max: NOON + MINUTE });
    expect(watermark.value).toBe(NOON);
    watermark.rest(at(0));
    watermark.rest(at(5 * MINUTE));
    expect(past(watermark)).toBe(0);
    watermark.rest(at(6 * MINUTE));
    expect(past(watermark)).toBe(MINUTE);
    // A backlog later on is not a new holder.
    watermark.busy();
    watermark.rest(at(10 * MINUTE));
    watermark.rest(at(11 * MINUTE));
    expect(past(watermark)).toBe(2 * MINUTE);
  });

  it.each([
    ['event', undefined],
    ['event', { mark: NOON - 2 * MINUTE, max: NOON }],
    ['processing', undefined],
  ] as const)('says when it reaches a time by the clock: %s time, stored %o', (mode, stored) => {
    const watermark = mark(stored, { mode, wait: MINUTE });
    expect(watermark.reaches(NOON + 7)).toBe(Infinity);
    watermark.read(NOON, at(10));
    watermark.rest(at(10));
    expect(watermark.reaches(watermark.value)).toBe(-Infinity);
    const when = watermark.reaches(NOON + 7);
    watermark.rest(at(when - 1));
    expect(past(watermark)).toBeLessThan(7);
    watermark.rest(at(when));
    expect(past(watermark)).toBe(7);
    watermark.busy();
    expect(watermark.reaches(NOON + 8)).toBe(Infinity);
  });

  it('never goes back', () => {
    const watermark = mark({ mark: NOON, max: NOON + 5 * MINUTE });
    watermark.read(NOON - DAY, at(0));
    watermark.raise(NOON - DAY);
    watermark.rest(at(0, -DAY));
    watermark.rest(at(1, -DAY));
    expect(watermark.state).toEqual({ mark: NOON, max: NOON + 5 * MINUTE });
    watermark.raise(NOON + DAY);
    expect(past(watermark)).toBe(DAY);
  });

  it('changes in a copy, and not in what it was copied from', () => {
    const watermark = mark();
    watermark.read(NOON, at(0));
    const draft = watermark.copy();
    draft.read(NOON + MINUTE, at(0));
    draft.rest(at(0));
    expect(past(watermark)).toBe(-5 * MINUTE);
    expect(past(draft)).toBe(-4 * MINUTE);
  });
});

describe('the mark of processing time', () => {
  const processing = { mode: 'processing', wait: 1000 } as const;

  it('is the clock less the grace, each time all has been read', () => {
    const watermark = mark(undefined, processing);
    watermark.rest(at(0));
    expect(past(watermark)).toBe(-1000);
    expect(watermark.read(NOON + 500, at(5_000)).mark).toBe(NOON - 1000);
    watermark.rest(at(5_000));
    expect(past(watermark)).toBe(4_000);
  });

  it('stays while the clock is behind', () => {
    const watermark = mark(undefined, processing);
    watermark.rest(at(0));
    watermark.rest(at(10, -60 * MINUTE));
    expect(past(watermark)).toBe(-1000);
    watermark.rest(at(2_000));
    expect(past(watermark)).toBe(1_000);
  });

  it('does not follow a leap of the clock that no message confirms', () => {
    const watermark = mark(undefined, processing);
    watermark.rest(at(0));
    watermark.rest(at(10, DAY));
    expect(past(watermark)).toBe(-990);
    watermark.rest(at(2_000, DAY));
    expect(past(watermark)).toBe(1_000);
    // Put right again.
    watermark.rest(at(3_000));
    expect(past(watermark)).toBe(2_000);
  });

  it('follows it once a message does, but for one from further ahead', () => {
    const watermark = mark(undefined, processing);
    watermark.rest(at(0));
    watermark.rest(at(10, DAY));
    expect(watermark.read(NOON + 400 * DAY, at(10, DAY)).time).toBe(NOON + 10);
    watermark.read(NOON + DAY, at(10, DAY));
    watermark.rest(at(10, DAY));
    expect(past(watermark)).toBe(DAY - 990);
  });
});

describe('timeOf', () => {
  it.each([
    [new Date(5), 5],
    [7.9, 7],
    [-1.5, -2],
    [-1e15, -1e15],
    [new Date(Number.NaN), undefined],
    [Number.NaN, undefined],
    [Number.POSITIVE_INFINITY, undefined],
    [8.6e15, undefined],
    ['2026-01-01', undefined],
    [undefined, undefined],
    [null, undefined],
    [5n, undefined],
  ])('of %s is %s', (given, time) => {
    expect(timeOf(given)).toBe(time);
  });
});
