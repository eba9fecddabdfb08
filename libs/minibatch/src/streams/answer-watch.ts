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
  /** When the write in flight began, or was last found to be waited for with reason; monotonic. Undefined: none is in flight. */
  private since: number | undefined;
  /** One timer outlives many writes: to set one for each would cost more than anything else that is done here. */
  private isArmed = false;
  /** Of writes; what was asked during an earlier one no longer counts. */
  private write = 0;
  private cancelSilence: (() => void) | undefined;

  constructor(private readonly parts: AnswerWatchParts) {}

  /** A write begins. */
  begin(): void {
    this.since = this.parts.clock.monotonic();
    if (this.isArmed) return;
    const patience = this.parts.patience();
    if (patience !== undefined) this.arm(patience / 2, patience / 2);
  }

  /** The write is answered. */
  end(): void {
    this.write += 1;
    this.since = undefined;
    this.cancelSilence?.();
    this.cancelSilence = undefined;
  }

  /** @param half of the patience; milliseconds */
  private arm(wait: number, half: number): void {
    this.isArmed = true;
    this.parts.clock.schedule(wait, () => {
      this.isArmed = false;
      if (this.since === undefined) return;
      const rest = this.since + half - this.parts.clock.monotonic();
      if (rest > 0) this.arm(rest, half);
      else void this.ask(half);
    });
  }

  private async ask(half: number): Promise<void> {
    const { write } = this;
    const { clock, look, silent } = this.parts;
    const most = half + Math.max(LEAST_MARGIN, 2 * half * MARGIN);
    this.cancelSilence = clock.schedule(most, () => silent(silence(half + most)));
    try {
      await look();
    } catch (error) {
      // The write may be answered all the same; otherwise the time will be up.
      if (isStoreAway(error)) return;
    }
    if (write !== this.write) return;
    this.cancelSilence();
    this.since = clock.monotonic();
    this.arm(half, half);
  }
}

function silence(ms: number): MinibatchError {
  return new MinibatchError(
    ErrorCode.StoreUnavailable,
    `the store has not answered for ${ms} ms, neither this call nor another one. Check that its server is running and reachable`,
  );
}
