import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';

/** The store could not do what was asked. `stored` says what is known of the effect of a write. */
export class WriteFailed extends MinibatchError {
  constructor(
    readonly stored: 'no' | 'unknown',
    message: string,
    cause?: unknown,
    code: ErrorCode = ErrorCode.StoreUnavailable,
    details?: Readonly<Record<string, unknown>>,
  ) {
    super(code, message, { cause, ...(details !== undefined && { details }) });
  }
}
