import { checkKeys, checkName, invalidOption } from '../common/checks.js';
import type { DeadLetterFilter } from '../storage/stream-store.interface.js';

/**
 * Checks a filter before it selects anything: a misspelled field would select every letter, possibly to discard them.
 * Returns a copy.
 *
 * @throws MinibatchError `InvalidOptions`
 */
export function checkFilter(where: string, given: unknown): DeadLetterFilter {
  checkKeys(where, given, ['group', 'ids', 'before']);
  const { group, ids, before } = given as Record<keyof DeadLetterFilter, unknown>;
  return {
    ...(group === undefined ? {} : { group: checkName(where, 'group', group) }),
    ...(ids === undefined ? {} : { ids: checkIds(where, ids) }),
    ...(before === undefined ? {} : { before: checkTime(where, before) }),
  };
}

function checkIds(where: string, given: unknown): readonly string[] {
  if (Array.isArray(given) && given.every((id) => typeof id === 'string')) return [...given];
  throw invalidOption(where, 'ids', given, 'a list of ids of dead letters');
}

function checkTime(where: string, given: unknown): Date {
  if (given instanceof Date && !Number.isNaN(given.getTime())) return new Date(given);
  throw invalidOption(where, 'before', given, 'a valid Date');
}
