import type { Window } from './window.js';

/**
 * What a result is known by where it is written: the same each time its window is put, also after a crash.
 *
 * @param index position in the handler's array; undefined if it returned no array
 */
export function resultId(window: Pick<Window, 'id'>, index: number | undefined): string {
  return index === undefined ? window.id : `${window.id}:${index}`;
}
