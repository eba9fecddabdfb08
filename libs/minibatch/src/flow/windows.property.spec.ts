import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CountWindows } from './count-windows.js';
import { HoppingWindows } from './hopping.js';
import type { Untyped } from './aggregates.js';
import { contentOf, type Course, ids, Machine } from './machine.spec.support.js';
import { MessageWindows } from './message-windows.js';
import { paneGrid } from './pane-grid.js';
import * as reference from './reference.spec.support.js';
import { SessionWindows } from './sessions.js';
import { TumblingWindows } from './tumbling.js';

/** `FC_RUNS=2000` for a long search; `FC_SEED` (and `FC_PATH`) repeat one that failed. */
const RUNS = Number(process.env['FC_RUNS'] ?? 200);
const options = {
  numRuns: RUNS,
  ...(process.env['FC_SEED'] ? { seed: Number(process.env['FC_SEED']) } : {}),
  ...(process.env['FC_PATH'] ? { path: process.env['FC_PATH'] } : {}),
};

type Step = { readonly key: string; readonly ahead: number } | reference.Happening;

/** Mostly in order: each message is a little before or after where the one before it would be. */
const steps = fc.array(
  fc.oneof(
    {
      arbitrary: fc.record({
        key: fc.constantFrom('a', 'a', 'b', '', '\ud800', 'long'.repeat(50)),
        ahead: fc.integer({ min: -12, max: 9 }),
      }),
      weight: 9,
    },
    { arbitrary: fc.record({ quiet: fc.integer({ min: 1, max: 15 }) }), weight: 1 },
    {
      arbitrary: fc.constantFrom<reference.Happening>({ backlog: 15 }, { takeover: true }, { flush: true }),
      weight: 1,
    },
  ),
  { minLength: 1, maxLength: 40, size: 'max' },
);

const events = fc.record({ steps, from: fc.constantFrom(0, -50, 1_000) }).map(({ steps: planned, from }) => {
  let now = from;
  return planned.map((step: Step, n): reference.Event => {
    if (!('ahead' in step)) return step;
    now += Math.max(0, step.ahead);
    return { id: `m${String(n).padStart(3, '0')}`, key: step.key, time: now + Math.min(0, step.ahead) };
  });
});

const some = (min: number, max: number) => fc.array(fc.integer({ min, max }), { minLength: 1, maxLength: 5 });
const course: fc.Arbitrary<Course> = fc.record({
  batches: some(1, 15),
  pages: some(1, 6),
  waits: some(0, 3),
  repeats: fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
  handled: some(0, 8),
});
const late = fc.record({ wait: fc.nat({ max: 10 }), lateness: fc.nat({ max: 12 }), lateWindows: fc.boolean() });
const kind = fc.constantFrom<'aggregate' | 'collect'>('aggregate', 'collect');
const empty = fc.constantFrom<boolean | 'once'>(false, false, true, 'once');

describe('windows', { timeout: RUNS * 500 + 60_000 }, () => {
  it('tumbling are those of the definition, whatever happens', () => {
    const rules = fc.record({ interval: fc.integer({ min: 1, max: 20 }), late });
    fc.assert(
      fc.property(events, rules, kind, course, (given, { interval, late: lateRules }, content, how) => {
        const grid = paneGrid({ interval, every: interval, offset: 0 });
        const held = contentOf(content);
        const machine = new Machine(new TumblingWindows(held, grid, lateRules), lateRules, how);
        const found = machine.run(given, reference.END);
        const hops = { interval, every: interval, revises: held.revises, empty: false } as const;
        expect(reference.told(found)).toEqual(reference.told(reference.hopping(given, { ...hops, ...lateRules })));
        expect([...machine.rows.keys()]).toEqual([]);
      }),
      options,
    );
  });

  it('hopping are those of the definition, whatever happens', () => {
    const rules = fc.record({
      interval: fc.integer({ min: 1, max: 24 }),
      every: fc.integer({ min: 1, max: 24 }),
      empty,
      late,
    });
    fc.assert(
      fc.property(events, rules, kind, course, (given, { late: lateRules, ...drawn }, content, how) => {
        const hops = { ...drawn, every: Math.min(drawn.every, drawn.interval) };
        const held = contentOf(content);
        const logic = new HoppingWindows(held, paneGrid({ ...hops, offset: 0 }), { ...lateRules, empty: hops.empty });
        const machine = new Machine(logic, lateRules, how);
        const found = machine.run(given, hops.empty === true ? 1_500 : reference.END);
        const expected = reference.hopping(
          given,
          { ...hops, ...lateRules, revises: held.revises },
          hops.empty === true ? 1_500 : undefined,
        );
        expect(reference.told(found)).toEqual(reference.told(expected));
        // What has gone costs nothing, but for keys that have empty windows for ever.
        if (hops.empty !== true) expect([...machine.rows.keys()]).toEqual([]);
      }),
      options,
    );
  });

  it('windows by count are those of the definition, whatever happens', () => {
    // More than a window holds are there before the first one.
    const ten = Array.from({ length: 10 }, (_, n) => ({ id: `m00${n}`, key: 'a', time: 0 }));
    const tenAndFlush: reference.Event[] = [...ten, { flush: true }];
    const slow = { batches: [1], pages: [1], waits: [0], repeats: [false], handled: [0] };
    const rules = fc.record({
      size: fc.integer({ min: 1, max: 12 }),
      every: fc.integer({ min: 1, max: 12 }),
      partial: fc.boolean(),
      longest: fc.constantFrom(3, 20, Infinity),
      wait: fc.nat({ max: 5 }),
    });
    fc.assert(
      fc.property(events, rules, kind, course, (given, { wait, ...drawn }, content, how) => {
        const countRules = { ...drawn, every: Math.min(drawn.every, drawn.size) };
        const machine = new Machine(new CountWindows(contentOf(content), countRules), { wait }, how, 'append');
        const found = machine.run(given, reference.END);
        expect(reference.told(found)).toEqual(reference.told(reference.counting(given, countRules, wait)));
        if (countRules.longest < Infinity) expect([...machine.rows.keys()]).toEqual([]);
      }),
      {
        ...options,
        examples: [[tenAndFlush, { size: 9, every: 6, partial: false, longest: Infinity, wait: 0 }, 'aggregate', slow]],
      },
    );
  });

  it('windows at each message are those of the definition, whatever happens', () => {
    const rules = fc.record({ interval: fc.integer({ min: 1, max: 20 }), wait: fc.nat({ max: 10 }) });
    fc.assert(
      fc.property(events, rules, kind, course, (given, { interval, wait }, content, how) => {
        const logic = new MessageWindows(interval, content === 'aggregate' ? (ids as Untyped) : undefined);
        const machine = new Machine(logic, { wait }, how);
        const found = machine.run(given, reference.END);
        expect(reference.told(found)).toEqual(reference.told(reference.each(given, interval, wait)));
        expect([...machine.rows.keys()]).toEqual([]);
      }),
      options,
    );
  });

  it('sessions are those of the definition, whatever happens', () => {
    const rules = fc.record({
      gap: fc.integer({ min: 1, max: 12 }),
      more: fc.constantFrom(0, 3, 10, Infinity),
      leading: fc.boolean(),
      late,
    });
    fc.assert(
      fc.property(events, rules, kind, course, (given, { gap, more, leading, late: lateRules }, content, how) => {
        const sessionRules = { gap, longest: gap + more, leading, ...lateRules };
        const machine = new Machine(new SessionWindows(contentOf(content), sessionRules), lateRules, how);
        const found = machine.run(given, reference.END);
        expect(reference.told(found)).toEqual(reference.told(reference.sessions(given, sessionRules)));
        expect([...machine.rows.keys()]).toEqual([]);
      }),
      options,
    );
  });

  it('keep every message: in one final window each, or as missed, whatever happens', () => {
    const rules = fc.record({
      gap: fc.integer({ min: 1, max: 12 }),
      more: fc.constantFrom(0, 10, Infinity),
      leading: fc.boolean(),
      late,
    });
    fc.assert(
      fc.property(events, rules, kind, course, (given, { gap, more, leading, late: lateRules }, content, how) => {
        const grid = paneGrid({ interval: gap, every: gap, offset: 0 });
        const logics = [
          new TumblingWindows(contentOf(content), grid, lateRules),
          new SessionWindows(contentOf(content), { gap, longest: gap + more, leading, ...lateRules }),
        ];
        for (const logic of logics) {
          const { windows, missed } = new Machine(logic, lateRules, how).run(given, reference.END);
          const found = [...lastRevisions(windows).flatMap((each) => each.ids), ...missed.map(({ id }) => id)];
          expect(found.toSorted()).toEqual(idsOf(given));
        }
      }),
      options,
    );
  });

  it('hopping keep every message: in each of its windows, or as missed there, whatever happens', () => {
    const rules = fc.record({
      interval: fc.integer({ min: 1, max: 24 }),
      every: fc.integer({ min: 1, max: 24 }),
      late,
    });
    fc.assert(
      fc.property(events, rules, kind, course, (given, { late: lateRules, ...drawn }, content, how) => {
        const hops = { ...drawn, every: Math.min(drawn.every, drawn.interval), offset: 0 };
        const logic = new HoppingWindows(contentOf(content), paneGrid(hops), { ...lateRules, empty: false });
        const { windows, missed } = new Machine(logic, lateRules, how).run(given, reference.END);
        const found = [
          ...lastRevisions(windows).flatMap(({ ids: all, start }) => all.map((id) => `${id} in ${start}`)),
          ...missed.flatMap(({ id, starts }) => starts.map((start) => `${id} in ${start}`)),
        ];
        const expected = given.flatMap((event) => {
          if (!('time' in event)) return [];
          const starts = Array.from({ length: 100 }, (_, n) => (Math.floor(event.time / hops.every) - n) * hops.every);
          return starts.filter((start) => event.time < start + hops.interval).map((start) => `${event.id} in ${start}`);
        });
        expect(found.toSorted()).toEqual(expected.toSorted());
      }),
      options,
    );
  });
});

/** Of results that were given several times, the last one. */
function lastRevisions(windows: readonly reference.Expected[]): readonly reference.Expected[] {
  const isRevised = (window: reference.Expected) =>
    windows.some(
      ({ key, start, openedBy, revision }) =>
        key === window.key && start === window.start && openedBy === window.openedBy && revision > window.revision,
    );
  return windows.filter((window) => !isRevised(window));
}

function idsOf(events: readonly reference.Event[]): readonly string[] {
  return events.flatMap((event) => ('time' in event ? [event.id] : []));
}
