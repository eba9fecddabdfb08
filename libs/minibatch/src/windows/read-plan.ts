import type { ReadPlan } from './window-emitter.js';

/** Is this a plan? What a strategy's `readPlan` returned may be anything: strategies in JavaScript have no compiler. */
export function isReadPlan(given: unknown): given is ReadPlan {
  const plan = given as Partial<Record<'order' | 'room' | 'maxAge' | 'ranges' | 'until', unknown>> | null | undefined;
  switch (plan?.order) {
    case 'append':
      return isNumberOrAbsent(plan.room) && isNumberOrAbsent(plan.maxAge);
    case 'time':
      return Array.isArray(plan.ranges) && plan.ranges.length > 0 && plan.ranges.every(isRange);
    case 'idle':
      return typeof plan.until === 'number' && !Number.isNaN(plan.until);
    default:
      return false;
  }
}

function isRange(given: unknown): boolean {
  const range = given as { from?: unknown; to?: unknown } | null | undefined;
  return typeof range === 'object' && range !== null && isNumberOrAbsent(range.from) && isNumberOrAbsent(range.to);
}

function isNumberOrAbsent(given: unknown): boolean {
  return given === undefined || (typeof given === 'number' && !Number.isNaN(given));
}
