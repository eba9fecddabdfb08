import type { FailedMessage, SplitPart, SplitState } from '../storage/stream-store.interface.js';

/**
 * Taking a window apart, as pure steps from one stored state to the next.
 *
 * ```text
 * [0 … n) ──halve──▶ [0 … n/2) [n/2 … n)      a part of several messages that fails is halved, without backoff
 * [i]     ──failed──▶ [i] again ──failed──▶ failed message     a single message has two tries
 * [a … b) ──passed──▶ done
 * ```
 *
 * n messages with one bad among them cost about 2 · log2(n) runs of the handler.
 */

/** Tries of a message that is alone. */
const SINGLE_TRIES = 2;

/** The window has failed as a whole: the next thing is to try its halves. */
export function begin(messages: number): SplitState {
  return { pending: halves({ from: 0, to: messages, failures: 0 }), failed: [] };
}

/** Only these messages are in doubt; all others are done. `failures` of each so far. */
export function isolate(indices: readonly number[], failures: number): SplitState {
  return { pending: indices.map((index) => ({ from: index, to: index + 1, failures })), failed: [] };
}

/** The first pending part went through. */
export function passed({ pending, failed }: SplitState): SplitState {
  return { pending: pending.slice(1), failed };
}

/** The first pending part went through but for these messages of it (indices in the window): they are tried alone next. */
export function passedBut(state: SplitState, rejected: readonly number[]): SplitState {
  const { pending, failed } = passed(state);
  return { pending: [...isolate(rejected, 1).pending, ...pending], failed };
}

/** The first pending part failed, or was rejected by the handler itself. */
export function failed(state: SplitState, error: string, stack: string | undefined, rejected = false): SplitState {
  const [part, ...rest] = state.pending;
  if (!part) return state;
  if (part.to - part.from > 1) return { pending: [...halves(part), ...rest], failed: state.failed };
  if (part.failures + 1 < SINGLE_TRIES) {
    return { pending: [{ ...part, failures: part.failures + 1 }, ...rest], failed: state.failed };
  }
  const message: FailedMessage = {
    index: part.from,
    error,
    ...(stack === undefined ? {} : { stack }),
    ...(rejected ? { rejected } : {}),
  };
  return { pending: rest, failed: [...state.failed, message] };
}

function halves(part: SplitPart): readonly SplitPart[] {
  const { from, to } = part;
  if (to - from <= 1) return [{ from, to, failures: 0 }];
  const middle = from + Math.ceil((to - from) / 2);
  return [
    { from, to: middle, failures: 0 },
    { from: middle, to, failures: 0 },
  ];
}
