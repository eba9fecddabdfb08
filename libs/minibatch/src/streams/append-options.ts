import { isA } from '../errors/error-text.js';
import { AppendError, bareMessageOf, ErrorCode, messageOf, MinibatchError } from '../errors/minibatch.error.js';
import { checkKeys, invalidOption } from '../common/checks.js';

/** The options of a single message. */
const MESSAGE = ['key', 'headers', 'dedupeId'] as const;

/** The options of each call, by name. */
const ALLOWED = {
  append: [...MESSAGE, 'session'],
  appendMany: ['each', 'session'],
  each: MESSAGE,
  sourceAppend: [...MESSAGE, 'position'],
  sourceAppendMany: ['each', 'position'],
} as const;

/**
 * A checked copy of the options of a call. A misspelled `dedupeId` that went unnoticed would store messages twice. Each option is read
 * once, here, because a Proxy or a getter may throw.
 *
 * @throws AppendError `InvalidOptions`
 */
export function appendOptions<O extends object>(where: string, given: O, call: keyof typeof ALLOWED): Partial<O> {
  try {
    if (call.endsWith('Many')) refuseMessageOptions(where, given);
    checkKeys(where, given, ALLOWED[call]);
    const options: Record<string, unknown> = {};
    for (const name of ALLOWED[call]) {
      const value: unknown = Reflect.get(given, name);
      if (value === undefined) continue;
      if (name === 'each' && typeof value !== 'function') throw invalidOption(where, name, value, 'a function');
      options[name] = value;
    }
    // Nothing is in it but what was in the given one.
    return options as Partial<O>;
  } catch (error) {
    throw refusedCall(where, error);
  }
}

/** An option of a message, where one call has many. @throws MinibatchError `InvalidOptions` */
function refuseMessageOptions(where: string, given: unknown): void {
  if (typeof given !== 'object' || given === null) return;
  const option = MESSAGE.find((name) => Reflect.has(given, name));
  if (option === undefined) return;
  throw new MinibatchError(
    ErrorCode.InvalidOptions,
    `${where}: '${option}' belongs to a single message: each: (data) => ({ ${option} })`,
    { details: { where, option } },
  );
}

/** The call itself is invalid, whatever its messages are; a Proxy among its arguments may have thrown anything. */
export function refusedCall(where: string, error: unknown): AppendError {
  if (isA(error, MinibatchError) && error.code === ErrorCode.InvalidOptions) {
    return new AppendError(error.code, bareMessageOf(error), 'no', { details: error.details });
  }
  return new AppendError(
    ErrorCode.InvalidOptions,
    `${where}: reading the arguments failed: ${messageOf(error)}`,
    'no',
    {
      cause: error,
    },
  );
}
