import { isA, messageOf } from '../errors/error-text.js';
import { ExecutorUnavailable } from '../errors/executor-errors.js';
import { RejectMessages } from '../errors/minibatch.error.js';
import type { HandleOptions, WindowHandler } from './executor.interface.js';
import { type Answer, answerOf, encodeAnswer, failureOf, MAX_RESULT_BYTES, thrownAnswer } from './outcome-codec.js';
import { RemoteWindow } from './remote-window.js';
import { decodeTask, type ReceivedTask } from './task-codec.js';

/** @returns undefined if the worker does not have it */
export type FindHandler = (stream: string, group: string) => WindowHandler | undefined;

/** Runs a task in a worker. Resolves with the answer for the emitter, whatever happens. */
export async function runTask(bytes: Uint8Array, find: FindHandler, options: HandleOptions = {}): Promise<Uint8Array> {
  let task: ReceivedTask;
  let handler: WindowHandler;
  try {
    task = decodeTask(bytes);
    handler = found(task, find);
  } catch (error) {
    return encodeAnswer(failureOf(error));
  }
  return encodeAnswer(await runReceived(task, handler, options));
}

/** Calls the handler. Resolves with the answer, whatever happens. */
export async function runReceived(task: ReceivedTask, handler: WindowHandler, options: HandleOptions): Promise<Answer> {
  const { signal = NEVER, closing = signal, maxResultBytes = MAX_RESULT_BYTES } = options;
  const window = new RemoteWindow(task, signal, closing);
  let result: unknown;
  try {
    result = await handler(window);
  } catch (thrown) {
    if (!isA(thrown, RejectMessages)) return thrownAnswer(thrown);
    try {
      for (const { message, reason } of thrown.rejected) window.reject(message, reason);
    } catch (error) {
      return thrownAnswer(error);
    }
  }
  const { label, wantsResult } = task.header;
  const outcome = { result: wantsResult ? result : undefined, rejected: RemoteWindow.rejectionsOf(window) };
  try {
    return answerOf(outcome, label, maxResultBytes);
  } catch (error) {
    return failureOf(error);
  }
}

const NEVER = new AbortController().signal;

function found({ header }: ReceivedTask, find: FindHandler): WindowHandler {
  const { label, stream, group } = header;
  const handler = find(stream, group);
  if (handler) return handler;
  throw new ExecutorUnavailable(
    `a worker was sent a window of ${label} and has no consumer of '${stream}' in the group '${group}': add its provider to the module ` +
      'that the worker boots',
    { details: { consumer: label, stream, group } },
  );
}

/** For workers that can't begin at all. */
export function notReady(why: unknown): Uint8Array {
  return encodeAnswer(failureOf(new ExecutorUnavailable(`a worker can't start: ${messageOf(why)}`, { cause: why })));
}
