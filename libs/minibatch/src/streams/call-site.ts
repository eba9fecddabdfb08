import type { Clock } from '../common/clock.js';
import { isA } from '../errors/error-text.js';
import { AppendError, bareMessageOf } from '../errors/minibatch.error.js';

/** When a call was made, and where. */
export interface CallSite {
  /** Monotonic. */
  readonly since: number;
  /** Undefined if there were too many calls lately. */
  readonly stack: string | undefined;
}

/** Most stacks that are taken in a second: one takes twenty microseconds, more than all else that an append does before it is sent. */
const MOST = 20;
const SECOND = 1_000;

/**
 * An append that fails without being awaited ends the process, and the stack of what the write failed with leads to the queue. So each call
 * notes where it came from. Only the first twenty of each second do, because it costs time.
 */
export class CallSites {
  private left = 0;
  private until = Number.NEGATIVE_INFINITY;

  constructor(private readonly clock: Clock) {}

  readonly note = (): CallSite => {
    const since = this.clock.monotonic();
    if (since >= this.until) {
      this.left = MOST;
      this.until = since + SECOND;
    }
    const site: CallSite = { since, stack: undefined };
    if (this.left > 0) {
      this.left -= 1;
      Error.captureStackTrace(site, this.note);
    }
    return site;
  };
}

/**
 * What a call failed with, as an error of its own: many calls share a write, and its error. It names the stream, and its stack leads to the
 * caller. A driver's error passes unchanged, for transactions are repeated by it.
 */
export function failureOf(stream: string, { stack }: CallSite, error: unknown): unknown {
  if (!isA(error, AppendError)) return error;
  const { code, stored, details, cause } = error;
  const own = new AppendError(code, naming(stream, bareMessageOf(error)), stored, {
    details,
    ...(cause === undefined ? {} : { cause }),
  });
  const frames = stack?.indexOf('\n    at ') ?? -1;
  // Otherwise it has the frames of those that await the call.
  if (stack !== undefined && frames >= 0) own.stack = `${own.name}: ${own.message}${stack.slice(frames)}`;
  return own;
}

function naming(stream: string, text: string): string {
  const general = 'append failed: ';
  if (text.startsWith(general)) return `append to '${stream}' failed: ${text.slice(general.length)}`;
  return text.includes(`'${stream}'`) ? text : `append to '${stream}': ${text}`;
}
