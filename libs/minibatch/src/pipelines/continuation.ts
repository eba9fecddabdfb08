import type { Message } from '../windows/message.js';
import type { Draft } from './draft.js';
import { MessageRun, type Take } from './message-run.js';

/** What goes on behind windows: a result, or a late message. */
export interface Onward {
  readonly data: unknown;
  /** As the functions see it. */
  readonly message: Message;
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** Undefined to try it at once; otherwise it is known not to work. */
  readonly failed?: unknown;
  /** Whether what has been made of it can be committed. Absent: it can. */
  readonly fits?: (made: readonly Draft[]) => boolean;
  /** For the stream where it is tried again. Undefined if it can't be stored, and has been given up. */
  readonly toStore: () => Draft | undefined;
}

/**
 * The steps behind windows. They run in the same batch as the windows, and what they make is part of the same commit, as long as they work at once. No
 * message of the batch is to blame for a result at which a function throws, and an outage of what a function calls must not hold up windows:
 * such results go to a stream of their own, where the pipeline handles them as it does any message.
 */
export class Continuation {
  private hasAsynchronous: boolean;

  /** @param take of steps without sinks; absent: there are some, so that all has to be handled there */
  constructor(private readonly take: Take | undefined) {
    this.hasAsynchronous = take === undefined;
  }

  /** All of it is handled there. */
  get isDeferred(): boolean {
    return this.hasAsynchronous;
  }

  /** @returns what to append */
  run(onward: Onward): readonly Draft[] {
    const made = this.now(onward);
    if (made && (onward.fits?.(made) ?? true)) return made;
    const stored = onward.toStore();
    return stored ? [stored] : [];
  }

  /** Undefined if it does not work at once. */
  private now({ data, message, time, failed }: Onward): readonly Draft[] | undefined {
    if (this.isDeferred || !this.take || failed !== undefined) return undefined;
    const run = new MessageRun(message, time);
    try {
      const running = this.take(data, run);
      if (running) {
        // What it calls may hang. It is called again there, where many can be on their way at the same time.
        this.hasAsynchronous = true;
        running.catch(() => undefined);
        return undefined;
      }
    } catch {
      return undefined;
    }
    return run.outputs.flatMap((output) => (output.kind === 'message' ? [output.message] : []));
  }
}
