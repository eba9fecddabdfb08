import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MergedWatermark, type MergedOptions } from './merged-watermark.js';
import { sideOf, type SideNote } from './side-note.js';
import type { Look, WatermarkState } from './watermark.js';

const NOON = Date.UTC(2026, 0, 1, 12);
const IDLE_AFTER = 1_000;
const INPUTS = ['s:a', 's:b'];
const OPTIONS: MergedOptions = {
  ...{ mode: 'event', wait: 0, idle: 'advance', maxAhead: 1e9 },
  ...{ idleAfter: IDLE_AFTER, inputs: INPUTS },
};
const at = (ms: number): Look => ({ now: NOON + ms, monotonic: ms });

/** What happens to the mark, in order. */
type Event =
  | { readonly note: SideNote }
  /** Everything has been read, so many milliseconds after what was before. */
  | { readonly rest: number }
  /** Another process goes on with what is stored. */
  | { readonly takeover: true };

interface Heard {
  mark: number;
  next: number;
  isIdle: boolean;
  /** How long it has said nothing while everything had been read; undefined: not looked yet. */
  silent: number | undefined;
}

/** What the mark means, said as plainly as possible: after each event, how far it is. */
function reference(events: readonly Event[], idle: 'advance' | 'hold'): readonly number[] {
  let sides = new Map<string, Heard>(INPUTS.map((input) => [sideOf(input, 0), unheard()]));
  let mark = -Infinity;
  let furthest = -Infinity;
  return events.map((event) => {
    if ('takeover' in event) {
      sides = new Map([...sides].map(([name, side]) => [name, { ...side, isIdle: false, silent: undefined }]));
      return mark;
    }
    if ('rest' in event) {
      for (const side of sides.values()) side.silent = side.silent === undefined ? 0 : side.silent + event.rest;
    } else {
      const { side: name, mark: said, next, isIdle = false } = event.note;
      const side = sides.get(name) ?? unheard();
      sides.set(name, side);
      if (said !== undefined || isIdle) side.next = next ?? Infinity;
      side.mark = Math.max(side.mark, said ?? -Infinity);
      side.isIdle = isIdle;
      side.silent = undefined;
      furthest = Math.max(furthest, said ?? -Infinity);
    }
    const all = [...sides.values()];
    const waitedFor = all.filter(({ isIdle, silent = 0 }) => !isIdle && silent < IDLE_AFTER);
    const others = all.filter((side) => !waitedFor.includes(side));
    const quiet = idle === 'hold' ? 0 : Math.min(...all.map(({ silent = 0 }) => silent));
    const least = waitedFor.length > 0 ? Math.min(...waitedFor.map((side) => side.mark)) : furthest + quiet;
    mark = Math.max(mark, Math.min(least, ...others.map(({ next }) => next)));
    return mark;
  });
}

function unheard(): Heard {
  return { mark: -Infinity, next: Infinity, isIdle: false, silent: undefined };
}

const side = fc.constantFrom(sideOf('s:a', 0), sideOf('s:b', 0), sideOf('s:b', 1));
const time = fc.nat({ max: 20_000 }).map((ms) => NOON + ms);
const note: fc.Arbitrary<SideNote> = fc.oneof(
  fc.record({ side, mark: time }),
  fc.record({ side, mark: time, next: time }),
  fc.record({ side, isIdle: fc.constant(true as const) }),
  fc.record({ side }),
);
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ note }) },
  { weight: 3, arbitrary: fc.record({ rest: fc.nat({ max: 700 }) }) },
  { weight: 1, arbitrary: fc.constant({ takeover: true as const }) },
);
const idle = fc.constantFrom('advance' as const, 'hold' as const);

describe('the mark of several sides', () => {
  it('is what its definition says, whatever happens, and never goes back', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 30 }), idle, (events, mode) => {
        const options = { ...OPTIONS, idle: mode };
        let watermark = new MergedWatermark(options);
        let now = 0;
        const marks = events.map((each) => {
          const step = watermark.copy();
          if ('note' in each) step.hear(each.note, at(now));
          else if ('rest' in each) step.rest(at((now += each.rest)));
          else watermark = new MergedWatermark(options, watermark.state);
          if (!('takeover' in each)) watermark = step;
          return watermark.value;
        });
        expect(marks).toEqual(reference(events, mode));
        expect(marks).toEqual(marks.toSorted((a, b) => a - b));
      }),
    );
  });

  it('is late for no side that says something in time and keeps to what it says', () => {
    const step = fc.record({
      side,
      forward: fc.nat({ max: 500 }),
      back: fc.nat({ max: 100 }),
      rest: fc.nat({ max: 300 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const watermark = new MergedWatermark(OPTIONS);
        const marks = new Map<string, number>();
        const lastSaid = new Map<string, number>();
        const silent = new Set<string>();
        // How many partitions there are is known from the beginning.
        watermark.hear({ side: sideOf('s:b', 0), of: 2 }, at(0));
        let now = 0;
        for (const { side: name, forward, back, rest } of steps) {
          const mark = marks.get(name) ?? NOON;
          if (now - (lastSaid.get(name) ?? 0) >= IDLE_AFTER) silent.add(name);
          const reading = watermark.read(mark + 1 + back, at(now), { side: name, mark: mark + forward });
          if (!silent.has(name)) expect(reading.mark).toBeLessThanOrEqual(mark);
          marks.set(name, mark + forward);
          lastSaid.set(name, now);
          watermark.rest(at((now += rest)));
        }
      }),
    );
  });

  it('says when it reaches a time by the clock', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 20 }), idle, fc.nat({ max: 30_000 }), (events, mode, target) => {
        const watermark = new MergedWatermark({ ...OPTIONS, idle: mode });
        let now = 0;
        for (const each of events) {
          if ('note' in each) watermark.hear(each.note, at(now));
          else if ('rest' in each) watermark.rest(at((now += each.rest)));
        }
        watermark.rest(at(now));
        const when = watermark.reaches(NOON + target);
        const valueAt = (ms: number) => {
          const copy = watermark.copy();
          copy.rest(at(ms));
          return copy.value;
        };
        if (when === -Infinity) expect(watermark.value).toBeGreaterThanOrEqual(NOON + target);
        else if (when === Infinity) expect(valueAt(now + 1e7)).toBeLessThan(NOON + target);
        else {
          expect(valueAt(when)).toBeGreaterThanOrEqual(NOON + target);
          expect(valueAt(when - 1)).toBeLessThan(NOON + target);
        }
      }),
    );
  });

  it('forgets sides of inputs that are gone, and waits anew for the others', () => {
    const before = new MergedWatermark(OPTIONS);
    before.hear({ side: sideOf('s:a', 0), mark: NOON }, at(0));
    before.hear({ side: sideOf('s:b', 0), mark: NOON + 50, of: 2 }, at(0));
    before.hear({ side: sideOf('s:b', 1), mark: NOON + 60 }, at(0));
    const stored = before.state;
    const after = new MergedWatermark({ ...OPTIONS, inputs: ['s:b', 's:c'] }, stored);
    expect(Object.keys(after.state.sides ?? {})).toEqual(['s:b/0', 's:b/1', 's:c/0']);
    after.rest(at(0));
    after.rest(at(IDLE_AFTER - 1));
    expect(after.value).toBe(NOON);
    after.rest(at(IDLE_AFTER));
    expect(after.value).toBe(NOON + 60 + IDLE_AFTER);
  });

  it('is not moved by a side whose clock is ahead', () => {
    const watermark = new MergedWatermark({ ...OPTIONS, maxAhead: 10, inputs: ['s:a'] });
    const name = sideOf('s:a', 0);
    watermark.hear({ side: name, mark: NOON + 11 }, at(0));
    expect(watermark.value).toBe(-Infinity);
    expect(watermark.read(NOON + 11, at(0), { side: name, mark: NOON }).time).toBe(NOON);
    expect(watermark.value).toBe(-Infinity);
    watermark.hear({ side: name, mark: NOON + 10 }, at(0));
    expect(watermark.value).toBe(NOON + 10);
  });

  it('goes by the time of the message where an earlier version has said nothing of sides', () => {
    const stored: WatermarkState = { mark: NOON, max: NOON + 5 };
    const watermark = new MergedWatermark({ ...OPTIONS, wait: 3, inputs: ['s:a'] }, stored);
    expect(watermark.read(NOON + 10, at(0))).toEqual({ time: NOON + 10, mark: NOON });
    watermark.hear({ side: sideOf('s:a', 0), mark: NOON + 100 }, at(0));
    expect(watermark.value).toBe(NOON + 7);
  });

  it('tells once that all partitions of an input were flushed', () => {
    const watermark = new MergedWatermark(OPTIONS);
    watermark.hear({ side: sideOf('s:b', 0), of: 2, flush: true }, at(0));
    expect(watermark.takeFlush()).toBe(false);
    const next = new MergedWatermark(OPTIONS, watermark.state);
    next.hear({ side: sideOf('s:b', 1), of: 2, flush: true }, at(0));
    expect([next.takeFlush(), next.takeFlush()]).toEqual([true, false]);
  });
});
