import { BatchWindow } from '../../engine/batch-window.js';
import { ExecutorTask } from '../../engine/executor-task.js';
import { failedWith } from '../../engine/handled.js';
import { RemoteHandlerError, thrownOf } from '../../errors/executor-errors.js';
import { messageOf } from '../../errors/error-text.js';
import type { Executor, ExecutorConsumer, WindowHandler } from '../../executors/executor.interface.js';
import { encodeTask } from '../../executors/task-codec.js';
import { decodeMessage, encodeMessage } from '../../storage/encoded-message.js';
import type { NewMessage, WindowRecord } from '../../storage/stream-store.interface.js';
import { CONTRACT_STREAM, ContractHandlers, type HandlerName, HANDLERS } from './handlers.js';

const handlers = new ContractHandlers();

export const CONSUMERS: readonly ExecutorConsumer[] = HANDLERS.map(consumerOf);

function consumerOf(group: string): ExecutorConsumer {
  return { label: `ContractHandlers.${group}`, stream: CONTRACT_STREAM, group, workers: 1 };
}

export interface TaskOptions {
  readonly record?: Partial<WindowRecord>;
  readonly messages?: readonly Partial<NewMessage>[];
  readonly signal?: AbortSignal;
  readonly wantsResult?: boolean;
  readonly partition?: number;
}

/** A task for a handler of the contract, or for one that no worker has. */
export function taskFor(executor: Executor, group: HandlerName | 'absent', options: TaskOptions = {}): ExecutorTask {
  const { record, messages = [{ data: 1 }], wantsResult = true, partition = 0 } = options;
  const { signal = new AbortController().signal } = options;
  const stored = messages.map((message, index) => {
    const { data = index, created = new Date(1_700_000_000_000 + index), ...rest } = message;
    return decodeMessage(`m${index}`, encodeMessage({ stream: CONTRACT_STREAM, data, created, ...rest }));
  });
  const window = new BatchWindow(
    { stream: CONTRACT_STREAM, group, partition },
    {
      seq: 1,
      id: `window of ${group}`,
      messageIds: stored.map(({ id }) => id),
      created: new Date(0),
      attempt: 1,
      recoveries: 0,
      ...record,
    },
    stored,
    { signal },
  );
  const bound = { executor, consumer: consumerOf(group), encode: encodeTask };
  const handler: WindowHandler = group === 'absent' ? () => undefined : (each) => handlers[group](each);
  return new ExecutorTask(bound, handler, window, record?.recoveries ?? 0, wantsResult, partition);
}

/** What the engine makes of the run: the result, and the reasons by message id. */
export async function handled(
  executor: Executor,
  task: ExecutorTask,
): Promise<{ readonly result: unknown; readonly rejected: Readonly<Record<string, string>> }> {
  let result: unknown;
  try {
    const outcome = await executor.run(task);
    for (const { id, error } of outcome.rejected) task.window.reject({ id }, error);
    ({ result } = outcome);
  } catch (error) {
    if (!(error instanceof RemoteHandlerError)) throw error;
    const ended = failedWith(thrownOf(error), task.window);
    if (ended.kind !== 'handled') throw error;
  }
  const rejected = [...task.window.rejected].map(([id, reason]) => [id, messageOf(reason)] as const);
  return { result, rejected: Object.fromEntries(rejected) };
}
