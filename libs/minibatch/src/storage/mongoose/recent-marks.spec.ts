import { describe, expect, it } from 'vitest';
import { RecentMarks } from './recent-marks.js';

describe('RecentMarks', () => {
  it('knows which groups have marked a message', () => {
    const marks = new RecentMarks();
    marks.add(['1', '2'], 'a');
    marks.add(['2', '3'], 'b');
    marks.add(['2'], 'b');
    expect(marks.covers('2', ['a', 'b'])).toBe(true);
    expect(marks.covers('2', ['a'])).toBe(true);
    expect(marks.covers('1', ['a', 'b'])).toBe(false);
    expect(marks.covers('4', ['a'])).toBe(false);
    expect(marks.covers('1', [])).toBe(false);
    marks.forget(['2', '4']);
    expect(marks.covers('2', ['a'])).toBe(false);
  });

  it('forgets the oldest', () => {
    const marks = new RecentMarks(3);
    marks.add(['1', '2'], 'a');
    marks.add(['1', '3', '4', '5'], 'b');
    expect(['1', '2', '3', '4', '5'].map((id) => marks.covers(id, ['b']))).toEqual([false, false, true, true, true]);
  });
});
