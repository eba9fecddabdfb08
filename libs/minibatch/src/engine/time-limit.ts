import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { Call } from './calls.js';
import type { LeaseTerm } from './lease-term.js';

/** How long something may take, and what it is if it takes longer. */
export interface TimeLimit {
  /** Milliseconds. */
  readonly most: number;
  readonly error: () => MinibatchError;
  readonly abort: (error: MinibatchError) => void;
  /** Resolves when the time begins to count. @default at once */
  readonly from?: Promise<void>;
}

/** The handler has outlived `retry.timeout`. */
export function handlerTimeout(label: string, most: number): MinibatchError {
  return new MinibatchError(ErrorCode.HandlerTimeout, `${label} did not settle within ${most} ms (retry.timeout)`);
}

/**
 * Rejects if a call takes too long, whatever it says later. A call can't be ended from outside: it is told by its signal, and what follows
 * begins when it has settled, or there would be more calls at a time than workers. Unless `retry.onTimeout` is `'abandon'`.
 */
export async function limited<R>(
  term: LeaseTerm,
  call: Call,
  running: Promise<R>,
  { most, error, abort, from }: TimeLimit,
): Promise<R> {
  const { calls, counters, definition } = term;
  const { clock, activity } = term.parts;
  const end = () => calls.end(call);
  const settled = running.then(end, end);
  let cancel = (): void => undefined;
  let isOver = false;
  const limit = new Promise<undefined>((resolve) => {
    const begin = () => {
      if (!isOver) cancel = clock.schedule(most, () => resolve(undefined));
    };
    if (from) void from.then(begin);
    else begin();
  });
  try {
    // It waits for the clock too: a test with a virtual one must be able to move it on.
    const first = await activity.aside(Promise.race([running.then((result) => ({ result })), limit]));
    if (first) return first.result;
  } finally {
    isOver = true;
    cancel();
  }
  const late = error();
  call.isLate = true;
  counters.failed(clock.now(), late);
  abort(late);
  if (definition.retry.onTimeout !== 'abandon') await activity.aside(settled);
  throw late;
}
