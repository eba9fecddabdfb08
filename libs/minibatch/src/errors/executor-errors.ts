import { isA, messageOf, propertyOf, stackOf } from './error-text.js';
import { ErrorCode, MinibatchError, type MinibatchErrorOptions } from './minibatch.error.js';

export interface RemoteHandlerErrorOptions {
  /** The class of what was thrown, such as `TypeError`. @default `RemoteHandlerError` */
  readonly name?: string;
  /** The stack in the worker, where the handler's frames are. @default the stack of this object */
  readonly stack?: string;
  /** The code of what was thrown. @default none */
  readonly code?: string;
  /** What was thrown, if it was thrown in this process. @default none */
  readonly cause?: unknown;
}

/**
 * The handler threw: an executor rejects with it, and the run counts as a failed attempt. Text and stack are those of what was thrown.
 *
 * @example
 * ```ts
 * throw new RemoteHandlerError('no such order', { name: 'RangeError' });
 * ```
 */
export class RemoteHandlerError extends Error {
  override readonly name: string = 'RemoteHandlerError';
  readonly code?: string;

  constructor(message: string, options: RemoteHandlerErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    const { name, stack, code } = options;
    if (name !== undefined) this.name = name;
    if (stack !== undefined) this.stack = stack;
    if (code !== undefined) this.code = code;
  }

  /** Of what a handler has thrown in this process. */
  static of(thrown: unknown): RemoteHandlerError {
    const [name, code, stack] = [propertyOf(thrown, 'name'), propertyOf(thrown, 'code'), stackOf(thrown)];
    return new RemoteHandlerError(messageOf(thrown), {
      cause: thrown,
      ...(typeof name === 'string' && { name }),
      ...(typeof code === 'string' && { code }),
      ...(stack !== undefined && { stack }),
    });
  }
}

/** What the handler threw, as far as it is known here. */
export function thrownOf(error: RemoteHandlerError): unknown {
  return 'cause' in error ? error.cause : error;
}

/**
 * An executor can't run a window now: its broker can't be reached, or no worker serves the consumer. Counts as nothing; the window waits.
 *
 * @example
 * ```ts
 * throw new ExecutorUnavailable('no worker has registered for orders');
 * ```
 */
export class ExecutorUnavailable extends MinibatchError {
  override readonly name: string = 'ExecutorUnavailable';

  constructor(message: string, options: MinibatchErrorOptions = {}) {
    super(ErrorCode.ExecutorUnavailable, message, options);
  }
}

/** The worker died while it ran the handler: a thread that ended, a process that stopped answering. The input may have ended it. */
export class WorkerLost extends MinibatchError {
  override readonly name: string = 'WorkerLost';

  constructor(message: string, options: MinibatchErrorOptions = {}) {
    super(ErrorCode.WorkerLost, message, options);
  }
}

/** The window was handed to a worker, and nobody knows what became of it. Counts as nothing; it runs again. */
export class ResultLost extends MinibatchError {
  override readonly name: string = 'ResultLost';

  constructor(message: string, options: MinibatchErrorOptions = {}) {
    super(ErrorCode.ResultLost, message, options);
  }
}

/** Emitter and worker do not understand each other: one of them is of a version that speaks another protocol. */
export class ProtocolMismatch extends MinibatchError {
  override readonly name: string = 'ProtocolMismatch';

  constructor(message: string, options: MinibatchErrorOptions = {}) {
    super(ErrorCode.ProtocolMismatch, message, options);
  }
}

/** A handler returned what can't be sent back: it is larger than `maxResultBytes`, or holds a value that has no bytes. */
export class ResultUnsendable extends MinibatchError {
  override readonly name: string = 'ResultUnsendable';

  constructor(message: string, options: MinibatchErrorOptions = {}) {
    super(ErrorCode.ResultUnsendable, message, options);
  }
}

/** One that is not counted against the window: the executor is at fault, or the network, or the result. */
export function isExecutorFault(error: unknown): error is MinibatchError {
  return (
    isA(error, ExecutorUnavailable) ||
    isA(error, ResultLost) ||
    isA(error, ProtocolMismatch) ||
    isA(error, ResultUnsendable)
  );
}
