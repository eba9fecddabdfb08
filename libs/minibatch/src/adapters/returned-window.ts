import { isA } from '../errors/error-text.js';
import { Window } from '../windows/window.js';

/**
 * A method that returns its window sends the messages, their ids and the module's own objects to a sink, or fails with a cycle.
 *
 * @throws TypeError that says what to return
 */
export function refuseWindow(result: unknown): void {
  if (isA(result, Window)) throw new TypeError('it is the window itself: return window.data, or what was made of it');
}
