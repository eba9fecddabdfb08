import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import { WindowEmitter } from '../windows/window-emitter.js';
import type { BatchWindow } from './batch-window.js';
import type { LeaseTerm } from './lease-term.js';

type Hook = 'onProcess' | 'onEmit' | 'onCommit' | 'onUndo';

/** Most strategies define none. */
export function hasHook({ definition }: LeaseTerm, hook: Hook): boolean {
  return definition.emitter[hook] !== WindowEmitter.prototype[hook];
}

/** Calls a hook of the strategy. What it throws, at once or later, is counted and stops nothing. `detail`: the result, or the error. */
export function notify(term: LeaseTerm, hook: Hook, window: BatchWindow, detail?: unknown): void {
  const { definition, counters, parts } = term;
  const { emitter } = definition;
  // What it would be shown is a good part of what a window of one costs.
  if (!hasHook(term, hook) || window.isOfRows) return;
  const threw = (error: unknown) => {
    const wrapped = new MinibatchError(
      ErrorCode.EmitterFailed,
      `${hook} of the emitter of ${definition.label} threw: ${messageOf(error)}. It only observes, so nothing else is affected; fix it`,
      { cause: error },
    );
    counters.failed(parts.clock.now(), wrapped);
    parts.log.error(wrapped.message);
  };
  try {
    // The hooks that take no second argument leave it alone.
    const answer: unknown = emitter[hook](window.shown, detail);
    if (answer instanceof Promise) answer.catch(threw);
  } catch (error) {
    threw(error);
  }
}
