import type { FailureReason } from '../failure-reason.js';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/** A failure of the source's connection. */
export function connectionError(
  where: string,
  reason: FailureReason,
  message: string,
  cause?: unknown,
  details: Readonly<Record<string, unknown>> = {},
): MinibatchError {
  const said = cause === undefined ? '' : `: ${messageOf(cause)}`;
  return new MinibatchError(ErrorCode.SourceFailed, `${where}: ${message}${said}`, {
    cause,
    details: { where, reason, ...details },
  });
}
