import { RemoteHandlerError } from '../errors/executor-errors.js';
import type { Executor, WindowOutcome, WindowTask } from './executor.interface.js';

const NONE: WindowOutcome['rejected'] = [];

/**
 * Calls the handler in this process, on this event loop. Consumers do without it: it is for executors that add something to the call, or
 * send only some of the windows elsewhere.
 */
export class InlineExecutor implements Executor {
  readonly name: string = 'inline';

  async run({ handler, window }: WindowTask): Promise<WindowOutcome> {
    try {
      // What the handler rejects, the window knows.
      return { result: await handler(window), rejected: NONE };
    } catch (error) {
      throw RemoteHandlerError.of(error);
    }
  }
}
