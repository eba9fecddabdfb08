import { describe, expect, it } from 'vitest';
import { boundaryAfter, boundaryAtOrBefore } from './alignment.js';

describe('boundaries of a grid', () => {
  it('a time on a boundary begins the next interval', () => {
    const grid = { interval: 10, origin: 0 };
    expect(boundaryAtOrBefore(grid, 20)).toBe(20);
    expect(boundaryAfter(grid, 20)).toBe(30);
    expect(boundaryAfter(grid, 19)).toBe(20);
  });

  it('works before the epoch and with any origin', () => {
    expect(boundaryAtOrBefore({ interval: 10, origin: 0 }, -1)).toBe(-10);
    expect(boundaryAtOrBefore({ interval: 10, origin: -3 }, 6)).toBe(-3);
    expect(boundaryAfter({ interval: 10, origin: -3 }, 6)).toBe(7);
    expect(boundaryAtOrBefore({ interval: 10, origin: 1007 }, 6)).toBe(-3);
  });
});
