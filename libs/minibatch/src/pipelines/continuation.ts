import type { Message } from '../windows/message.js';
import { MessageRun, type Take } from './message-run.js';
import type { Draft } from './draft.js';

/** What goes on behind windows: a result, or a late message. */
export interface Onward {
  readonly data: unknown;
  /** As the functions see it. */
  readonly message: Message;
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** Undefined to try it at once; otherwise it is known not to work. */
  readonly failed?: unknown;
  /** For the stream where it is tried again. */
  readonly toStore: () => Draft;
}

/**
 * The steps behind windows. They run in the same batch as the windows, and what they make is part of the same commit, as long as they work at once. No
 * message of the batch is to blame for a result at which a function throws, and an outage of what a function calls must not hold up windows:
 * such results go to a stream of their own, where the pipeline handles them as it does any message.
 */
export class Continuation {
  private isDeferred: boolean;

  /** @param take of steps without sinks; absent: there are some, so that all has to be handled there */
  constructor(private readonly take: Take | undefined) {
    this.isDeferred = take === undefined;
  }

  /** @returns what to append @throws what can't be stored */
  async run(all: readonly Onward[]): Promise<Draft[]> {
    const drafts: Draft[] = [];
    for (const onward of all) drafts.push(...(await this.one(onward)));
    return drafts;
  }

  private async one({ data, message, time, failed, toStore }: Onward): Promise<readonly Draft[]> {
    if (this.isDeferred || !this.take || failed !== undefined) return [toStore()];
    const run = new MessageRun(message, time);
    try {
      const running = this.take(data, run);
      if (running) {
        // One by one would be slow. The next ones are handled where many are at the same time.
        this.isDeferred = true;
        await running;
      }
    } catch {
      return [toStore()];
    }
    return run.outputs.flatMap((output) => (output.kind === 'message' ? [output.message] : []));
  }
}
