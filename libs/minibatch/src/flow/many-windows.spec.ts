import { describe, expect, it } from 'vitest';
import { count, type Untyped } from './aggregates.js';
import { CountWindows } from './count-windows.js';
import { HoppingWindows } from './hopping.js';
import { contentOf, ids, Machine, PLAIN } from './machine.spec.support.js';
import { MessageWindows } from './message-windows.js';
import { paneGrid } from './pane-grid.js';
import * as reference from './reference.spec.support.js';
import { TumblingWindows } from './tumbling.js';

const KINDS = ['aggregate', 'collect'] as const;
const many = (count: number, key = 'k'): readonly reference.Message[] =>
  Array.from({ length: count }, (_, n) => ({ id: `m${String(n).padStart(4, '0')}`, key, time: n }));
/** All in one batch, and nothing fired before its end. */
const AT_ONCE = { ...PLAIN, batches: [10_000], waits: [10_000] };

describe.each(KINDS)('more windows of one key than a call fires (%s)', (kind) => {
  it('are all fired, hopping', () => {
    const rules = { interval: 50, every: 2, wait: 0, lateness: 0, lateWindows: false, empty: false } as const;
    const content = contentOf(kind);
    const machine = new Machine(new HoppingWindows(content, paneGrid({ ...rules, offset: 0 }), rules), rules, AT_ONCE);
    const found = reference.told(machine.run(many(600), reference.END));
    expect(found).toEqual(reference.told(reference.hopping(many(600), { ...rules, revises: content.revises })));
    expect(machine.rows.size).toBe(0);
    // Each call fires some; and they end.
    expect(found).toHaveLength(324);
  });

  it('are all fired, at each message', () => {
    const logic = new MessageWindows(50, kind === 'aggregate' ? (ids as Untyped) : undefined);
    const machine = new Machine(logic, { wait: 0 }, AT_ONCE);
    const found = reference.told(machine.run(many(350), reference.END));
    expect(found).toEqual(reference.told(reference.each(many(350), 50, 0)));
    expect(machine.rows.size).toBe(0);
  });
});

it('at each message read the messages of a key once, however many are fired', () => {
  const rows = new Map<string, unknown>();
  const reads = new Map<string, number>();
  const state = {
    get: (slot: string) => {
      reads.set(slot, (reads.get(slot) ?? 0) + 1);
      return rows.get(slot);
    },
    put: (slot: string, value: unknown) => void rows.set(slot, value),
    remove: (slot: string) => void rows.delete(slot),
  };
  const logic = new MessageWindows(1_000, count() as Untyped);
  const items = many(100).map(({ id, key, time }) => {
    const message = { id, data: null, created: new Date(time) };
    return { id, key, time, data: null, message, bytes: 0, mark: -1 };
  });
  logic.take(items, { state, number: 1, mark: -1 });
  reads.clear();
  const due = [...rows].filter(([slot]) => slot.startsWith('e/')).map(([slot, value]) => ({ slot, value }));
  const fired = logic.fire(due, { state, number: 2, mark: 1_000 });
  expect(fired.map(({ value }) => value)).toEqual(items.map((_item, n) => n + 1));
  expect([...reads].filter(([slot]) => slot.startsWith('c/')).map(([, times]) => times)).toEqual([1]);
});

describe.each(KINDS)('what is kept of windows by count (%s)', (kind) => {
  const after = (messages: number, rules: { readonly size: number; readonly every: number }) => {
    const logic = new CountWindows(contentOf(kind), { ...rules, partial: false, longest: Infinity });
    const machine = new Machine(logic, { wait: 0 }, PLAIN, 'append');
    for (const message of many(messages)) machine.take([message]);
    return machine;
  };

  it('is nothing of a key whose windows are full', () => {
    expect(after(6, { size: 3, every: 3 }).rows.size).toBe(0);
    expect(after(7, { size: 3, every: 3 }).rows.size).toBe(1);
  });

  it('is no more than the next window needs', () => {
    const short = after(20, { size: 4, every: 2 });
    const long = after(200, { size: 4, every: 2 });
    const bytes = ({ rows }: Machine) => [...rows.values()].reduce((sum, row) => sum + row.bytes.length, 0);
    expect(long.rows.size).toBe(short.rows.size);
    expect(Math.abs(bytes(long) - bytes(short))).toBeLessThan(20);
  });
});

describe('windows of a calendar', () => {
  const HOUR = 3_600_000;
  const told = (empty: boolean | 'once', every: number, ...times: readonly string[]) => {
    const rules = { wait: 0, lateness: 0, lateWindows: false, empty };
    const grid = paneGrid({ interval: 6 * HOUR, every: every * HOUR, offset: 0, timezone: 'Europe/Berlin' });
    const machine = new Machine(new HoppingWindows(contentOf('aggregate'), grid, rules), rules);
    machine.run(
      times.map((time, n) => ({ id: `m${n}`, key: 'k', time: Date.parse(time) })),
      Date.parse('2026-10-26T05:00:00Z'),
    );
    const hour = (time: number) => new Date(time).toISOString().slice(5, 13);
    return machine.windows.map(({ start, end, ids: all }) => `${hour(start)} – ${hour(end)}: ${all.join(' ')}`);
  };

  it('have all hours of the night in which clocks are put back', () => {
    // 02:30 in summer, and 02:30 an hour later.
    expect(told(false, 6, '2026-10-25T00:30:00Z', '2026-10-25T01:30:00Z', '2026-10-25T05:00:00Z')).toEqual([
      '10-24T22 – 10-25T05: m0 m1',
      '10-25T05 – 10-25T11: m2',
    ]);
  });

  it('are given empty, too', () => {
    expect(told(true, 6, '2026-10-25T00:30:00Z')).toEqual([
      '10-24T22 – 10-25T05: m0',
      '10-25T05 – 10-25T11: ',
      '10-25T11 – 10-25T17: ',
      '10-25T17 – 10-25T23: ',
      '10-25T23 – 10-26T05: ',
    ]);
  });

  it('have no window without any time where clocks are put forward', () => {
    const rules = { wait: 0, lateness: 0, lateWindows: false, empty: true };
    const grid = paneGrid({ interval: HOUR, every: HOUR, offset: 0, timezone: 'Europe/Berlin' });
    const machine = new Machine(new HoppingWindows(contentOf('collect'), grid, rules), rules);
    const events = [{ id: 'm', key: 'k', time: Date.parse('2026-03-28T23:30:00Z') }];
    machine.run(events, Date.parse('2026-03-29T03:00:00Z'));
    const starts = machine.windows.map(({ start, end }) => [
      new Date(start).toISOString().slice(11, 16),
      (end - start) / HOUR,
    ]);
    expect(starts).toEqual([
      ['23:00', 1],
      ['00:00', 1],
      ['01:00', 1],
      ['02:00', 1],
    ]);
  });
});

describe('100,000 quiet keys', () => {
  it('cost a batch of another key nothing', () => {
    const asked: number[] = [];
    const rules = { lateness: 0, lateWindows: false };
    const logic = new TumblingWindows(contentOf('aggregate'), paneGrid({ interval: 10, every: 10, offset: 0 }), rules);
    const needs = logic.needs.bind(logic);
    logic.needs = (items) => {
      const slots = needs(items);
      asked.push(slots.length);
      return slots;
    };
    const machine = new Machine(logic, { wait: 1_000 }, AT_ONCE);
    machine.take(Array.from({ length: 100_000 }, (_, n) => ({ id: `q${n}`, key: `quiet-${n}`, time: 0 })));
    machine.take(many(1_000));
    expect(asked).toEqual([100_000, 100]);
    expect(machine.rows.size).toBe(100_100);
  });
});
