import { describe, expect, it } from 'vitest';
import { isReadPlan } from './read-plan.js';

describe('isReadPlan', () => {
  it.each([
    { order: 'append' },
    { order: 'append', room: 10 },
    { order: 'append', room: undefined },
    { order: 'time', ranges: [{}] },
    { order: 'time', ranges: [{ from: 1 }, { to: 2 }, { from: 3, to: 4 }] },
    { order: 'time', ranges: [{ from: -Infinity, to: Infinity }] },
    { order: 'idle', until: 0 },
    { order: 'idle', until: Infinity },
  ])('takes %j', (plan) => {
    expect(isReadPlan(plan)).toBe(true);
  });

  it.each([
    undefined,
    null,
    0,
    'append',
    () => {},
    [],
    {},
    { order: 'newest' },
    { order: 'append', room: '10' },
    { order: 'append', room: NaN },
    { order: 'append', room: null },
    { order: 'time' },
    { order: 'time', ranges: [] },
    { order: 'time', ranges: {} },
    { order: 'time', ranges: [{}, undefined] },
    { order: 'time', ranges: [null] },
    { order: 'time', ranges: ['1-2'] },
    { order: 'time', ranges: [() => {}] },
    { order: 'time', ranges: [{ from: '1', to: 2 }] },
    { order: 'time', ranges: [{ from: 1, to: NaN }] },
    { order: 'time', ranges: [{ from: null }] },
    { order: 'idle' },
    { order: 'idle', until: NaN },
    { order: 'idle', until: new Date() },
  ])('refuses %j', (plan) => {
    expect(isReadPlan(plan)).toBe(false);
  });
});
