import type { Activity } from '../common/activity.js';
import { type Clock, delay } from '../common/clock.js';
import type { RateStart } from '../storage/stream-store.interface.js';
import type { RateLimit } from './engine.interface.js';

/** Most starts that are stored. Beyond that, neighbours are merged, as if all of them had been as late as the last. */
const STORED = 64;
/** A start is stored as a little later than planned, because the write takes time: by at most 1 % of the period; milliseconds. */
const MOST_MARGIN = 1_000;

/** Permission to begin one run of the handler. It counts until `withdraw`, or for one period from `begin` on. */
export interface Admission {
  readonly cost: number;
  /** Monotonic. */
  readonly admitted: number;
}

/** A run that has begun. */
interface Start {
  /** Monotonic. */
  readonly at: number;
  readonly cost: number;
  /** It counts until then. */
  readonly until: number;
  /** How much later than its start it is stored; 0 for a time that another process has stored. */
  readonly margin: number;
}

/**
 * Lets runs of a handler begin so that no period of `per` holds more than `most`, wherever it begins. (A token bucket would admit
 * twice as many in a period that begins before a burst, and a service that counts its calls would refuse them.)
 *
 * What counts is stored with the consumer before a run begins (`stored`), so that the next holder of the lease resumes from there (`restore`).
 * That write may take long. The period of a run starts when its handler is called (`begin`); until then the run counts as one that
 * begins now.
 *
 * A window of more messages than `most` begins when nothing counts any more, and then counts for as many periods as it takes.
 */
export class RateLimiter {
  /** In order of the time until which they count. */
  private starts: Start[] = [];
  /** Admitted, and not begun. */
  private readonly pending = new Set<Admission>();
  /** Sum of what counts. */
  private used = 0;
  /** Calls are served in order. */
  private turn: Promise<unknown> = Promise.resolve();
  /** What the windows that wait cost, in their order. */
  private readonly queue: number[] = [];
  private readonly margin: number;
  private limit: RateLimit;

  constructor(
    private readonly whole: RateLimit,
    private readonly clock: Clock,
    private readonly activity: Activity,
  ) {
    this.limit = whole;
    this.margin = Math.min(Math.ceil(whole.per / 100), MOST_MARGIN);
  }

  /**
   * Of a stream with several partitions, each has an equal part of the limit, whichever process works for it: so together they keep the
   * limit. If it allows fewer starts than there are partitions, each begins one at a time, in a period that is as many times longer.
   */
  divide(partitions: number): void {
    const { whole } = this;
    const most = Math.floor(whole.most / partitions);
    if (most >= 1) this.limit = { ...whole, most };
    else this.limit = { ...whole, most: 1, per: Math.ceil((whole.per * partitions) / whole.most) };
  }

  /** What counts now, for the next process; times are those of the wall clock, and none is earlier than the start of its run. */
  stored(): readonly RateStart[] {
    const now = this.forget();
    const { clock } = this;
    const offset = clock.now() - clock.monotonic();
    const starts = [
      ...this.starts.map(({ at, margin, cost }) => ({ at: at + margin, cost })),
      ...[...this.pending].map(({ cost }) => ({ at: now + this.margin, cost })),
    ].filter(({ cost }) => cost > 0);
    const share = Math.ceil(starts.length / STORED);
    const stored: RateStart[] = [];
    for (let from = 0; from < starts.length; from += share) {
      const some = starts.slice(from, from + share);
      const at = Math.max(...some.map((start) => start.at));
      stored.push({ at: new Date(Math.ceil(offset + at)), cost: some.reduce((sum, { cost }) => sum + cost, 0) });
    }
    return stored;
  }

  /**
   * Resumes from what another process has stored. The clocks of two machines may differ: a time in the future counts as now, so no
   * wait is longer than the limit requires.
   */
  restore(stored: readonly RateStart[]): void {
    const { clock } = this;
    const now = clock.now();
    for (const { at, cost } of stored) this.count(clock.monotonic() - Math.max(0, now - at.getTime()), cost, 0);
  }

  /** Resolves when the run may begin, with undefined if the signal aborts before. */
  async admit(messages: number, signal: AbortSignal): Promise<Admission | undefined> {
    const cost = this.limit.unit === 'windows' ? 1 : messages;
    const before = this.turn;
    const admitted = before.then(() => this.wait(cost, signal));
    this.turn = admitted;
    this.queue.push(cost);
    try {
      return await this.activity.aside(admitted);
    } finally {
      this.queue.shift();
    }
  }

  /** The handler is called now. True if the time stored at the admission is earlier, and has to be stored again. */
  begin(admission: Admission): boolean {
    if (!this.withdraw(admission)) return false;
    const now = this.clock.monotonic();
    this.count(now, admission.cost, this.margin);
    return now - admission.admitted > this.margin;
  }

  /** The run does not begin. False if it was begun or withdrawn before. */
  withdraw(admission: Admission): boolean {
    if (!this.pending.delete(admission)) return false;
    this.used -= admission.cost;
    return true;
  }

  /** Windows that wait. */
  get waiting(): number {
    return this.queue.length;
  }

  /** Milliseconds until one of the windows that wait can begin, as far as is known now; Infinity if none waits. */
  get hold(): number {
    const [first] = this.queue;
    return first === undefined ? Infinity : this.pause(first);
  }

  /** How many more windows could begin now. */
  get free(): number {
    this.forget();
    const room = this.limit.most - this.used;
    if (this.limit.unit === 'windows') return Math.max(0, room - this.waiting);
    // How many messages it will have is unknown until it is cut.
    return room > 0 && this.waiting === 0 ? Infinity : 0;
  }

  /** Milliseconds until one more window, or message, could begin, as far as is known now. */
  get rest(): number {
    return this.pause(1);
  }

  private async wait(cost: number, signal: AbortSignal): Promise<Admission | undefined> {
    for (;;) {
      if (signal.aborted) return undefined;
      const wait = this.pause(cost);
      if (wait <= 0) {
        const admission = { cost, admitted: this.clock.monotonic() };
        this.pending.add(admission);
        this.used += cost;
        return admission;
      }
      await delay(this.clock, wait, signal);
    }
  }

  /** Milliseconds until that much may begin. */
  private pause(cost: number): number {
    // An empty window costs no messages.
    if (cost === 0) return 0;
    const { most } = this.limit;
    const now = this.forget();
    let room = most - this.used;
    // The most that fits.
    const needed = Math.min(cost, most);
    for (const start of this.starts) {
      if (needed <= room) break;
      room += start.cost;
      if (needed <= room) return start.until - now;
    }
    // Those that have not begun will count for longer, but not less.
    return needed <= room ? 0 : this.limit.per;
  }

  private count(at: number, cost: number, margin: number): void {
    const { most, per } = this.limit;
    const until = at + per * Math.max(1, Math.ceil(cost / most));
    let place = this.starts.length;
    while (place > 0 && (this.starts[place - 1] as Start).until > until) place -= 1;
    this.starts.splice(place, 0, { at, cost, until, margin });
    this.used += cost;
  }

  private forget(): number {
    const now = this.clock.monotonic();
    let over = 0;
    for (const { until, cost } of this.starts) {
      if (until > now) break;
      over += 1;
      this.used -= cost;
    }
    if (over > 0) this.starts.splice(0, over);
    return now;
  }
}
