import { type BatchLimits, batchLength } from '../common/batches.js';
import type { Clock } from '../common/clock.js';
import { codeOf, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';

/** Nothing that waits is given up sooner; milliseconds. */
const LEAST_PATIENCE = 1_000;

interface WaitingCall {
  /** When the call was made; monotonic. */
  readonly since: number;
}

/**
 * Calls that wait for the store, oldest first.
 *
 * While the store is out of reach, each waits as long as if it had asked the store itself: for the time that the store looks for its
 * server, counted from the call. Without this they would fail one group after the other, each after the time of all groups before.
 */
export class WaitingCalls<C extends WaitingCall> {
  private calls: C[] = [];
  private outage: { readonly error: unknown; readonly patience: number } | undefined;
  private cancelTimer: (() => void) | undefined;

  /**
   * @param patience how long the store looks for its server, if known; otherwise the duration of a failed call counts
   * @param giveUp ends a call that has waited too long, with what the store failed with
   */
  constructor(
    private readonly clock: Clock,
    private readonly patience: () => number | undefined,
    private readonly giveUp: (call: C, error: unknown) => void,
  ) {}

  get length(): number {
    return this.calls.length;
  }

  get first(): C | undefined {
    return this.calls[0];
  }

  get isStoreAway(): boolean {
    return this.outage !== undefined;
  }

  [Symbol.iterator](): IterableIterator<C> {
    return this.calls[Symbol.iterator]();
  }

  add(call: C): void {
    this.calls.push(call);
    if (this.outage && !this.cancelTimer) this.expire();
  }

  /** Removes the oldest ones. */
  take(count: number): readonly C[] {
    const { calls } = this;
    if (count < calls.length) return calls.splice(0, count);
    this.calls = [];
    return calls;
  }

  /** Removes the oldest ones that make one batch within the limits; at least one. */
  takeBatch(limits: BatchLimits, itemsOf: (call: C) => number, bytesOf: (call: C) => number): readonly C[] {
    return this.take(batchLength(this.calls, limits, itemsOf, bytesOf));
  }

  /** Taken calls that will be retried before all others. */
  putBack(calls: readonly C[]): void {
    this.calls.unshift(...calls);
  }

  remove(call: C): void {
    const index = this.calls.indexOf(call);
    if (index >= 0) this.calls.splice(index, 1);
  }

  /** @param began when the call that has failed was made; monotonic */
  storeIsAway(began: number, error: unknown): void {
    const patience = this.patience() ?? Math.max(LEAST_PATIENCE, this.clock.monotonic() - began);
    this.outage = { error, patience };
    this.expire();
  }

  storeIsBack(): void {
    this.outage = undefined;
    this.cancelTimer?.();
    this.cancelTimer = undefined;
  }

  private expire(): void {
    this.cancelTimer?.();
    this.cancelTimer = undefined;
    if (!this.outage) return;
    const { error, patience } = this.outage;
    const due = this.clock.monotonic() - patience;
    const kept = this.calls.findIndex(({ since }) => since > due);
    for (const call of this.take(kept < 0 ? this.calls.length : kept)) this.giveUp(call, error);
    const [oldest] = this.calls;
    if (oldest) this.cancelTimer = this.clock.schedule(oldest.since - due, () => this.expire());
  }
}

/** The store could not be reached, or answers like one that can't be. */
export function isStoreAway(error: unknown): boolean {
  return codeOf(error, ErrorCode.AppendFailed) === ErrorCode.StoreUnavailable;
}

/** The store could not be reached. A refusal for another reason, such as missing rights, would be repeated however long one waits. */
export function isOutOfReach(error: unknown): boolean {
  return isStoreAway(error) && error instanceof MinibatchError && error.details['outOfReach'] === true;
}
