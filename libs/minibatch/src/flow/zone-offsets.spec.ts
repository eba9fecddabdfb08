import { describe, expect, it } from 'vitest';
import { paneGrid, windowsOf } from './pane-grid.js';
import { ZoneOffsets } from './zone-offsets.js';

const HOUR = 3_600_000;
const at = (text: string) => Date.parse(text);

/** The window of `length` hours that the time is in, and how many hours it has. */
function windowAround(timezone: string, time: string, length: number): readonly [start: string, hours: number] {
  const grid = paneGrid({ interval: length * HOUR, every: length * HOUR, offset: 0, timezone });
  const pane = grid.paneOf(at(time));
  const [start, end] = [grid.start(pane), grid.start(pane + 1)];
  return [new Date(start).toISOString(), (end - start) / HOUR];
}

describe('windows of a calendar', () => {
  it.each([
    ['Europe/Berlin', '2026-01-15T12:00:00Z', '2026-01-14T23:00:00.000Z', 24],
    ['Europe/Berlin', '2026-07-15T12:00:00Z', '2026-07-14T22:00:00.000Z', 24],
    ['Europe/Berlin', '2026-03-29T12:00:00Z', '2026-03-28T23:00:00.000Z', 23],
    ['Europe/Berlin', '2026-10-25T12:00:00Z', '2026-10-24T22:00:00.000Z', 25],
    ['America/New_York', '2026-03-08T12:00:00Z', '2026-03-08T05:00:00.000Z', 23],
    ['America/New_York', '2026-11-01T12:00:00Z', '2026-11-01T04:00:00.000Z', 25],
    ['America/St_Johns', '2006-04-02T12:00:00Z', '2006-04-02T03:30:00.000Z', 23],
    ['Australia/Lord_Howe', '2026-04-05T01:00:00Z', '2026-04-04T13:00:00.000Z', 24.5],
    ['Asia/Kathmandu', '2026-04-05T01:00:00Z', '2026-04-04T18:15:00.000Z', 24],
    ['UTC', '1969-12-31T23:59:59Z', '1969-12-31T00:00:00.000Z', 24],
  ])('a day in %s around %s starts at %s and has %s hours', (zone, time, start, hours) => {
    expect(windowAround(zone, time, 24)).toEqual([start, hours]);
  });

  it('the window in which the clock is changed is an hour shorter or longer', () => {
    expect(windowAround('Europe/Berlin', '2026-03-29T01:30:00Z', 6)).toEqual(['2026-03-28T23:00:00.000Z', 5]);
    expect(windowAround('Europe/Berlin', '2026-10-25T01:30:00Z', 1)).toEqual(['2026-10-25T00:00:00.000Z', 2]);
    expect(windowAround('Europe/Berlin', '2026-10-25T00:30:00Z', 1)).toEqual(['2026-10-25T00:00:00.000Z', 2]);
  });

  it.each(['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kathmandu'])(
    'every time of a year in %s is in the windows that are said to have it',
    (timezone) => {
      const grid = paneGrid({ interval: 24 * HOUR, every: 6 * HOUR, offset: HOUR, timezone });
      const wrong: string[] = [];
      for (let time = at('2026-01-01T00:00:00Z'); time < at('2027-01-01T00:00:00Z'); time += 17 * 60_000) {
        const pane = grid.paneOf(time);
        const isIn = grid.start(pane) <= time && time < grid.start(pane + 1);
        if (!isIn || windowsOf(grid, pane).length !== 4) wrong.push(new Date(time).toISOString());
      }
      expect(wrong).toEqual([]);
    },
  );

  it('a time that clocks never show is when they are put forward', () => {
    const zone = new ZoneOffsets('Europe/Berlin');
    expect(zone.instantOf(at('2026-03-29T02:30:00Z'))).toBe(at('2026-03-29T01:00:00Z'));
    expect(zone.instantOf(at('2026-10-25T02:30:00Z'))).toBe(at('2026-10-25T00:30:00Z'));
    expect(zone.localOf(at('1874-12-07T00:00:00Z'))).toBe(at('1874-12-07T00:53:28Z'));
  });

  it('refuses a zone that there is not', () => {
    expect(() => new ZoneOffsets('Europe/Atlantis')).toThrow(RangeError);
  });
});
