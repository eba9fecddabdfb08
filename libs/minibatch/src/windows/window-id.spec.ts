import { describe, expect, it } from 'vitest';
import { windowId } from './window-id.js';

const id = (ids: readonly string[], bounds = {}) => windowId('flights', 'default', 0, ids, bounds);
const start = new Date(0);
const end = new Date(60_000);

describe('windowId', () => {
  it('is made of stream, group and a digest', () => {
    expect(id(['a', 'b'])).toMatch(/^flights\/default\/[0-9a-f]{32}$/);
    expect(windowId('flights', 'default', 3, ['a'], {})).toMatch(/^flights\/default\/3\/[0-9a-f]{32}$/);
  });

  it('the same messages have the same id, in whatever order and bounds', () => {
    expect(id(['a', 'b'])).toBe(id(['b', 'a']));
    expect(id(['a', 'b'], { start, end })).toBe(id(['a', 'b'], { late: true }));
  });

  it('other messages have another id', () => {
    const ids = [['a', 'b'], ['ab'], ['a'], ['b'], ['a', 'b', 'c'], ['a,b'], ['messages', 'a']].map((each) => id(each));
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('a late window never has the id of the main one', () => {
    const bounds = { start, end };
    expect(id(['late'], { ...bounds, late: true })).not.toBe(id(['main'], bounds));
  });

  it('an empty window is known by its bounds', () => {
    const ids = [
      { start, end },
      { start, end, late: true },
      { start: end, end: new Date(120_000) },
      { end },
      { start: end },
      { start: new Date(30_000), end },
      { start, end: new Date(90_000) },
    ].map((bounds) => id([], bounds));
    expect(new Set(ids).size).toBe(ids.length);
    expect(id([], { start, end })).toBe(id([], { start: new Date(0), end: new Date(60_000) }));
    expect(id([], { start, end })).not.toBe(id(['empty', '0', '60000']));
  });

  it('names with slashes are not mistaken for one another', () => {
    const made = [
      windowId('a/b', 'c', 0, ['x'], {}),
      windowId('a', 'b/c', 0, ['x'], {}),
      windowId('a%2Fb', 'c', 0, ['x'], {}),
      windowId('a', 'b', 1, ['x'], {}),
      windowId('a', 'b/1', 0, ['x'], {}),
    ];
    expect(new Set(made).size).toBe(made.length);
    expect(made[0]).toMatch(/^a%2Fb\/c\//);
  });
});
