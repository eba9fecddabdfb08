import type { Clock } from '../common/clock.js';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { isStoreAway } from './waiting-calls.js';

/** A store that looks for its server says itself that it has found none, a little later than it should; milliseconds. */
const LEAST_MARGIN = 1_000;
const MARGIN = 0.1;

export interface AnswerWatchParts {
  readonly clock: Clock;
  /** How long the store looks for its server; undefined if it has none. Milliseconds. */
  readonly patience: () => number | undefined;
  /** Asks the store something that any server answers. */
  readonly look: () => Promise<unknown>;
  /** The store has answered neither the write nor the question. */
  readonly silent: (error: MinibatchError) => void;
}

/**
 * Notices that a write is not answered because the server has stopped to answer at all: it is frozen, or the network between has gone
 * without a word. A driver waits for that answer without end. A server that is merely slow answers a question meanwhile, and the write is
 * waited for.
 */
export class AnswerWatch {
  private cancel: (() => void) | undefined;
  /** Of writes; what was asked during an earlier one no longer counts. */
  private write = 0;

  constructor(private readonly parts: AnswerWatchParts) {}

  /** A write begins. */
  begin(): void {
    const patience = this.parts.patience();
    if (patience !== undefined) this.askAfter(patience / 2, patience / 2 + Math.max(LEAST_MARGIN, patience * MARGIN));
  }

  /** The write is answered. */
  end(): void {
    this.write += 1;
    this.cancel?.();
    this.cancel = undefined;
  }

  private askAfter(ms: number, most: number): void {
    this.cancel = this.parts.clock.schedule(ms, () => void this.ask(ms, most));
  }

  private async ask(ms: number, most: number): Promise<void> {
    const { write } = this;
    this.cancel = this.parts.clock.schedule(most, () => this.parts.silent(silence(ms + most)));
    try {
      await this.parts.look();
    } catch (error) {
      // The write may be answered all the same; otherwise the time will be up.
      if (isStoreAway(error)) return;
    }
    if (write !== this.write) return;
    this.cancel();
    this.askAfter(ms, most);
  }
}

function silence(ms: number): MinibatchError {
  return new MinibatchError(
    ErrorCode.StoreUnavailable,
    `the store has not answered for ${ms} ms, neither this call nor another one. Check that its server is running and reachable`,
  );
}
