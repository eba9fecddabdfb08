import type { IndexRange, SplitState } from '../storage/stream-store.interface.js';
import { IndexRanges } from './index-ranges.js';

/** Spreads probes evenly over a window, whatever its size: the golden ratio. */
const SPREAD = 0.618_033_988_75;

/** Messages to be tried together. */
export interface Part extends IndexRange {
  /** A message that fails alone now is given up. */
  readonly last: boolean;
}

/**
 * Takes a window apart to find the messages that fail.
 *
 * ```text
 * pending   [0 … n) ──failed──▶ [0 … n/2) [n/2 … n)     halved until a message is alone; no backoff
 *           [i]     ──failed──▶ again                   the service may have been away
 * alone     [i]     ──failed──▶ given up                the handler itself had rejected it
 * again     [a … b) ──────────▶ pending, for the last time, once something else has succeeded:
 *           [i]     ──failed──▶ given up
 * ```
 *
 * So no message is given up unless the handler has succeeded with others meanwhile. n messages with one bad among them cost
 * about 2 · log2(n) runs. The state is small: parts are halved in order, so few are pending, and the rest are ranges.
 */
export class Bisection {
  /** The handler has succeeded with something else. Not stored: after a restart it has to be seen anew. */
  proven = false;
  private pending: IndexRange[];
  private readonly alone: IndexRanges;
  private again: IndexRanges;
  /** The pending parts come from `again`. */
  private isLast: boolean;

  constructor({ pending, alone, again, last }: SplitState) {
    this.pending = [...pending];
    this.alone = new IndexRanges(alone);
    this.again = new IndexRanges(again);
    this.isLast = last && pending.length > 0;
  }

  /** All of the window has failed: the next thing is to try its halves. */
  static begin(messages: number): Bisection {
    return new Bisection({ pending: halves({ from: 0, to: messages }), alone: [], again: [], last: false });
  }

  /** The handler has rejected these; all others are done. */
  static isolate(rejected: readonly number[]): Bisection {
    const bisection = new Bisection({ pending: [], alone: [], again: [], last: false });
    for (const index of rejected) bisection.alone.add(index);
    bisection.proven = true;
    return bisection;
  }

  /** As it is to be stored. */
  get state(): SplitState {
    const { pending, alone, again, isLast } = this;
    return { pending: [...pending], alone: alone.toArray(), again: again.toArray(), last: isLast };
  }

  /** Nothing is left, not even for later. */
  get isDone(): boolean {
    return this.pending.length === 0 && this.alone.isEmpty && this.again.isEmpty;
  }

  /** The messages that are neither done nor given up. */
  get rest(): readonly IndexRange[] {
    return [...this.pending, ...this.alone.toArray(), ...this.again.toArray()];
  }

  /** What to try now; undefined if all is done, or if nothing more can be said before something else succeeds. */
  next(): Part | undefined {
    return this.part(this.proven);
  }

  /**
   * One message, in order to see whether anything works: together with a bad one it would say nothing. Another one each time; all
   * of what is left has failed.
   */
  probe(turn: number): Part | undefined {
    const left = new IndexRanges([...this.pending, ...this.again.toArray()].toSorted((a, b) => a.from - b.from));
    const index = left.take(Math.floor(((turn * SPREAD) % 1) * left.size));
    if (index === undefined) return this.next();
    this.pending = [{ from: index, to: index + 1 }];
    this.isLast = true;
    this.again = left;
    return { from: index, to: index + 1, last: true };
  }

  /** The message of the probe failed, which says no more of it than before. */
  probeFailed({ from }: Part): void {
    this.leave();
    this.again.add(from);
  }

  /** What comes next, also without proof. */
  tried(): Part | undefined {
    return this.part(true);
  }

  /** What failed together with others, and not alone yet, is to be tried from the beginning. */
  afresh(): Bisection {
    const bisection = new Bisection({ pending: this.rest, alone: [], again: [], last: false });
    bisection.proven = this.proven;
    return bisection;
  }

  /** The part went through, but for these. @returns those that are given up */
  passed({ from, to, last }: Part, rejected: readonly number[]): readonly number[] {
    this.leave();
    if (rejected.length < to - from) this.proven = true;
    if (last && to - from === 1) return rejected;
    for (const index of rejected) this.alone.add(index);
    return [];
  }

  /** Nothing is left of the messages of the part. */
  skip(): void {
    this.leave();
  }

  /** The part failed. @returns true if it was a message that is given up */
  failed(part: Part): boolean {
    if (part.to - part.from > 1) {
      this.pending.splice(0, 1, ...halves(part));
      return false;
    }
    this.leave();
    if (part.last) return true;
    this.again.add(part.from);
    return false;
  }

  private part(mayRepeat: boolean): Part | undefined {
    if (this.pending.length === 0 && this.alone.isEmpty && mayRepeat) {
      const range = this.again.shift();
      if (range) {
        this.pending = [range];
        this.isLast = true;
      }
    }
    const [first] = this.pending;
    if (first) return this.isLast && !mayRepeat ? undefined : { ...first, last: this.isLast };
    const { first: rejected } = this.alone;
    return rejected && { from: rejected.from, to: rejected.from + 1, last: true };
  }

  /** What was tried is not pending any more. */
  private leave(): void {
    if (this.pending.length === 0) this.alone.shiftIndex();
    else this.pending.shift();
    if (this.pending.length === 0) this.isLast = false;
  }
}

function halves({ from, to }: IndexRange): readonly IndexRange[] {
  if (to - from <= 1) return [{ from, to }];
  const middle = from + Math.ceil((to - from) / 2);
  return [
    { from, to: middle },
    { from: middle, to },
  ];
}
