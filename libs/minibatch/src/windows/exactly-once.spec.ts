import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CountWindow } from './count.window.js';
import { Driver, T0 } from './driver.spec.support.js';
import { FixedTimeWindow } from './fixed-time.window.js';
import { RelaxedTimeWindow } from './relaxed-time.window.js';
import type { WindowEmitter } from './window-emitter.js';
import { windowId } from './window-id.js';

const INTERVAL = 1000;
const MAX_AHEAD = 3000;

/**
 * Time passes, then messages come: created some milliseconds before or after that, below or above ids seen before.
 */
const step = fc.record({
  elapsed: fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 0, max: 1500 }) },
    { weight: 1, arbitrary: fc.integer({ min: 5000, max: 20_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: -20_000, max: -1 }) },
  ),
  messages: fc.array(
    fc.record({
      age: fc.oneof(
        { weight: 6, arbitrary: fc.integer({ min: 0, max: 50 }) },
        { weight: 2, arbitrary: fc.integer({ min: 0, max: 6000 }) },
        { weight: 2, arbitrary: fc.integer({ min: -10_000, max: 0 }) },
      ),
      /** A part of the id: ids of several processes interleave. */
      rank: fc.integer({ min: 0, max: 3 }),
      bytes: fc.integer({ min: 1, max: 300 }),
    }),
    { maxLength: 12 },
  ),
  flush: fc.boolean(),
  wakes: fc.boolean(),
});

const scenario = fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: 12 }),
  flushes: fc.boolean(),
  size: fc.integer({ min: 1, max: 7 }),
  wait: fc.boolean(),
  offset: fc.integer({ min: -2500, max: 2500 }),
  grace: fc.integer({ min: 0, max: 1200 }),
  empty: fc.boolean(),
  block: fc.integer({ min: 1, max: 6 }),
  lookAhead: fc.integer({ min: 1, max: 20 }),
  readAheadBytes: fc.oneof(fc.constant(Infinity), fc.integer({ min: 1, max: 2000 })),
  max: fc.integer({ min: 1, max: 10 }),
  maxSize: fc.integer({ min: 1, max: 10 }),
  maxBytes: fc.oneof(fc.constant(Infinity), fc.integer({ min: 1, max: 1000 })),
  lastEnd: fc.option(fc.integer({ min: -5, max: 2 }), { nil: undefined }),
});
type Scenario = typeof scenario extends fc.Arbitrary<infer S> ? S : never;

function play(emitter: WindowEmitter, s: Scenario, context: { size?: number; interval?: number }) {
  const driver = new Driver(emitter as never, {
    ...s,
    context: {
      ...context,
      offset: s.offset,
      grace: s.grace,
      maxAhead: MAX_AHEAD,
      empty: s.empty,
      ...(s.lastEnd === undefined ? {} : { lastEnd: new Date(T0 + s.lastEnd * INTERVAL + s.offset) }),
    },
  });
  let now = T0;
  let number = 0;
  const ids: string[] = [];
  for (const { elapsed, messages, flush, wakes } of s.steps) {
    now += elapsed;
    if (wakes) driver.advance(now);
    for (const { age, rank, bytes } of messages) {
      const id = `${Math.floor((now - T0) / 1000) + 1000}-${rank}-${String(number++).padStart(6, '0')}`;
      ids.push(id);
      driver.append({ id, created: now - age, bytes });
    }
    driver.run(now, s.flushes && flush);
  }
  driver.flush(now + 1);
  return { driver, ids };
}

function expectExactlyOnce({ driver, ids }: ReturnType<typeof play>, s: Scenario) {
  const emitted = driver.windows.flatMap(({ messages }) => messages.map(({ id }) => id));
  expect(emitted.toSorted()).toEqual(ids.toSorted());
  expect(driver.buffer.length).toBe(0);
  expect(driver.buffer.bytes).toBe(0);
  const made = driver.windows.map(({ messages, bounds }) =>
    windowId(
      'flights',
      'default',
      0,
      messages.map(({ id }) => id),
      bounds,
    ),
  );
  expect(new Set(made).size).toBe(made.length);
  for (const { messages } of driver.windows) {
    expect(messages.length).toBeLessThanOrEqual(s.maxSize);
    if (messages.length > 1) {
      expect(messages.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(s.maxBytes);
    }
  }
}

/** By how much the clock is set back at the most, from the latest time it showed. */
function retreat(steps: readonly { readonly elapsed: number }[]): number {
  let now = 0;
  let latest = 0;
  let most = 0;
  for (const { elapsed } of steps) {
    now += elapsed;
    latest = Math.max(latest, now);
    most = Math.max(most, latest - now);
  }
  return most;
}

/** By how much a message is ahead of the clock at the most; of one that is further ahead, when it begins to count as created then. */
function mostAhead(steps: readonly { readonly messages: readonly { readonly age: number }[] }[]): number {
  return Math.max(0, ...steps.flatMap(({ messages }) => messages.map(({ age }) => Math.min(-age, MAX_AHEAD))));
}

describe('whatever comes, whenever, and however it is read', () => {
  it('CountWindow: each message is in exactly one window, none too large', () => {
    fc.assert(
      fc.property(scenario, (s) => {
        const run = play(new CountWindow(), s, { size: s.size, ...(s.wait ? { interval: INTERVAL } : {}) });
        expectExactlyOnce(run, s);
        for (const { messages } of run.driver.windows) expect(messages.length).toBeLessThanOrEqual(s.size);
      }),
    );
  });

  it('RelaxedTimeWindow: each message is in exactly one window, with an end that is not before its start', () => {
    fc.assert(
      fc.property(scenario, (s) => {
        // A clock that is set back makes the same empty interval twice, by design: see its own test.
        const steps = s.steps.map((each) => ({ ...each, elapsed: s.empty ? Math.abs(each.elapsed) : each.elapsed }));
        const run = play(new RelaxedTimeWindow(), { ...s, steps }, { interval: INTERVAL });
        expectExactlyOnce(run, s);
        for (const { bounds } of run.driver.windows) {
          expect(Number(bounds.end)).toBeGreaterThanOrEqual(Number(bounds.start));
        }
      }),
    );
  });

  it('FixedTimeWindow: each message is in exactly one window, and that is the one of its interval', () => {
    fc.assert(
      fc.property(scenario, (s) => {
        // A clock that is set back by more than it may be ahead makes the same intervals again, by design: see its own tests. A flush
        // emits what is ahead of the clock, so that the clock need be set back by less.
        const turnsBack = retreat(s.steps) + (s.flushes ? mostAhead(s.steps) : 0) > MAX_AHEAD;
        const steps = s.steps.map((each) => ({ ...each, elapsed: s.empty ? Math.abs(each.elapsed) : each.elapsed }));
        const run = play(new FixedTimeWindow(), turnsBack ? { ...s, steps } : s, { interval: INTERVAL });
        expectExactlyOnce(run, s);
        let lastEnd = -Infinity;
        const main = new Set<number>();
        for (const { messages, bounds } of run.driver.windows) {
          const [start, end] = [Number(bounds.start), Number(bounds.end)];
          expect(end - start).toBe(INTERVAL);
          expect((start - s.offset) % INTERVAL).toBe(0);
          for (const { created, seen } of messages) {
            const time = created.getTime();
            // Counts as created on arrival if it is further ahead than allowed; `seen` is when it came at the latest.
            if (time <= seen + MAX_AHEAD) expect(time >= start && time < end).toBe(true);
          }
          if (bounds.late || turnsBack) continue;
          // Main windows follow each other in time, and each interval has one, whole or in parts.
          expect(end).toBeGreaterThanOrEqual(lastEnd);
          if (!bounds.part) expect(main.has(end)).toBe(false);
          main.add(end);
          lastEnd = end;
        }
      }),
    );
  });
});
