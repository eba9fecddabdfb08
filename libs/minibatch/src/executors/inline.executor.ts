import type { Window } from '../windows/window.js';
import type { Executor, WindowHandler } from './executor.interface.js';

/** Calls the handler in this process, on this event loop. */
export class InlineExecutor implements Executor {
  async run(handler: WindowHandler, window: Window): Promise<unknown> {
    return await handler(window);
  }
}
