import { afterEach, beforeEach, describe, it } from 'vitest';
import type { Executor, WindowOutcome, WindowTask } from '../executors/executor.interface.js';
import { InlineExecutor } from '../executors/inline.executor.js';
import { readOutcome } from '../executors/outcome-codec.js';
import { runTask } from '../executors/task-runner.js';
import { executorContract } from './executor-contract.js';
import { CONTRACT_STREAM, ContractHandlers } from './executor-contract/handlers.js';

executorContract({ describe, it, beforeEach, afterEach }, 'InlineExecutor', () => ({
  executor: new InlineExecutor(),
  inProcess: true,
}));

/** The protocol without a way between. */
class Protocol implements Executor {
  readonly name = 'protocol';
  private readonly handlers = new ContractHandlers();

  async run(task: WindowTask): Promise<WindowOutcome> {
    const find = (stream: string, group: string) => {
      const handler = (this.handlers as unknown as Record<string, ((window: never) => unknown) | undefined>)[group];
      return stream === CONTRACT_STREAM ? handler?.bind(this.handlers) : undefined;
    };
    return readOutcome(await runTask(task.encode(), find as Parameters<typeof runTask>[1], { signal: task.signal }));
  }
}

executorContract({ describe, it, beforeEach, afterEach }, 'The protocol', () => ({ executor: new Protocol() }));
