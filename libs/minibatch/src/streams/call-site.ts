import type { Clock } from '../common/clock.js';
import { isA } from '../errors/error-text.js';
import { AppendError, bareMessageOf } from '../errors/minibatch.error.js';

/** Where a call came from. */
export interface CallSite {
  readonly stack: string;
}

/** Most that are kept in a second: one takes some microseconds, as much as the append itself. */
const MOST = 100;
const SECOND = 1_000;

/**
 * An append that fails without being awaited ends the process, and the stack of what the write failed with leads to the queue. So each call
 * notes where it came from: the first hundred of each second do, for it is not free.
 */
export class CallSites {
  private left = 0;
  private until = Number.NEGATIVE_INFINITY;

  constructor(private readonly clock: Clock) {}

  /** Undefined if there were too many lately. */
  readonly note = (): CallSite | undefined => {
    const now = this.clock.monotonic();
    if (now >= this.until) {
      this.left = MOST;
      this.until = now + SECOND;
    }
    if (this.left === 0) return undefined;
    this.left -= 1;
    const site = { stack: '' };
    Error.captureStackTrace(site, this.note);
    return site;
  };
}

/**
 * What a call failed with, as an error of its own: many calls share a write, and its error. It names the stream, and its stack leads to the
 * caller. A driver's error passes unchanged, for transactions are repeated by it.
 */
export function failureOf(stream: string, site: CallSite | undefined, error: unknown): unknown {
  if (!isA(error, AppendError)) return error;
  const { code, stored, details, cause } = error;
  const own = new AppendError(code, naming(stream, bareMessageOf(error)), stored, {
    details,
    ...(cause === undefined ? {} : { cause }),
  });
  const frames = site?.stack.indexOf('\n    at ') ?? -1;
  // Without a site it has the frames of those that await the call.
  if (site && frames >= 0) own.stack = `${own.name}: ${own.message}${site.stack.slice(frames)}`;
  return own;
}

function naming(stream: string, text: string): string {
  const general = 'append failed: ';
  if (text.startsWith(general)) return `append to '${stream}' failed: ${text.slice(general.length)}`;
  return text.includes(`'${stream}'`) ? text : `append to '${stream}': ${text}`;
}
