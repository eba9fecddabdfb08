import type { MinibatchError } from '../errors/minibatch.error.js';
import type { EngineParts } from './tenure.js';

/** How long something may take, and what it is if it takes longer. */
export interface TimeLimit {
  /** Milliseconds. */
  readonly most: number;
  readonly error: () => MinibatchError;
  readonly abort: (error: MinibatchError) => void;
}

/** What takes too long goes on, but what it says counts no more. */
export async function limited<R>(
  { clock, activity }: Pick<EngineParts, 'clock' | 'activity'>,
  running: Promise<R>,
  { most, error, abort }: TimeLimit,
): Promise<R> {
  running.catch(() => undefined);
  let cancel = (): void => undefined;
  const limit = new Promise<never>((_, reject) => {
    cancel = clock.schedule(most, () => {
      const late = error();
      abort(late);
      reject(late);
    });
  });
  try {
    // It waits for the clock too: a test with a virtual one must be able to move it on.
    return await activity.aside(Promise.race([running, limit]));
  } finally {
    cancel();
  }
}
