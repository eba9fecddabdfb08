import type { Window } from '../windows/window.js';

/** Runs a consumer's handler somewhere: in this process, in a thread, on another machine. Knows nothing of storage. */
export interface Executor {
  /** Resolves with what the handler returned; rejects with what it threw. Honours `window.signal` where it can. */
  run(handler: WindowHandler, window: Window): Promise<unknown>;
}

export type WindowHandler = (window: Window) => unknown;
