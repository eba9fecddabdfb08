import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/**
 * Why a source failed:
 *
 * - `CREDENTIALS`: the broker does not let us in, or not do this
 * - `DECLARATION`: exchange or queue are there and are not what they have to be
 * - `CONNECTION`: the broker can't be reached, or the connection was lost
 */
export type FailureReason = 'CREDENTIALS' | 'DECLARATION' | 'CONNECTION';

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
