import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/**
 * Why a source failed:
 *
 * - `PACKAGE`: the broker's client is not installed
 * - `CREDENTIALS`: the broker does not let us in, or not do this
 * - `DECLARATION`: exchange or queue are there and are not what they have to be
 * - `CONNECTION`: the broker can't be reached, or the connection was lost
 */
export type FailureReason = 'PACKAGE' | 'CREDENTIALS' | 'DECLARATION' | 'CONNECTION';

export function sourceFailure(
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

/** A client package that a user installs only for its broker. */
export async function loadClient<M>(where: string, name: string, load: () => Promise<M>): Promise<M> {
  try {
    return await load();
  } catch (error) {
    const message = `the package '${name}' can't be loaded; run: npm install ${name}`;
    throw sourceFailure(where, 'PACKAGE', message, error, { package: name });
  }
}
