import type { Clock } from '../common/clock.js';
import { LiveSet } from '../common/live-set.js';
import type { Unsettled } from './engine.interface.js';

/** What takes longer is named; milliseconds. */
const LONG = 60_000;
/** At most this many are named. */
const MOST = 10;

/** A run of the handler, or a try of a sink, that is in flight. */
export interface Call {
  readonly window: string;
  readonly sink: string | undefined;
  /** Monotonic. */
  readonly since: number;
  isReported: boolean;
  /** It has outlived its time limit. */
  isLate: boolean;
}

/** What a consumer of this process waits for, in all its terms. A handler or a sink that never settles gives no sign of it: only its age tells. */
export class Calls {
  private readonly underWay = new LiveSet<Call>();

  constructor(private readonly clock: Clock) {}

  begin(window: string, sink?: string): Call {
    const call: Call = { window, sink, since: this.clock.monotonic(), isReported: false, isLate: false };
    this.underWay.add(call);
    return call;
  }

  end(call: Call): void {
    this.underWay.delete(call);
  }

  /** Those that have taken long, or have timed out, the oldest first. */
  get unsettled(): readonly Unsettled[] {
    return this.overdue()
      .slice(0, MOST)
      .map((call) => this.describe(call));
  }

  /** All that is in flight, the oldest first; ten at the most. */
  get current(): readonly Unsettled[] {
    return [...this.underWay].slice(0, MOST).map((call) => this.describe(call));
  }

  /** Those that have become overdue since the last look. */
  takeNews(): readonly Unsettled[] {
    const news = this.overdue().filter(({ isReported }) => !isReported);
    for (const call of news) call.isReported = true;
    return news.map((call) => this.describe(call));
  }

  private overdue(): readonly Call[] {
    const due = this.clock.monotonic() - LONG;
    return [...this.underWay].filter(({ since, isLate }) => isLate || since <= due);
  }

  private describe({ window, sink, since, isLate }: Call): Unsettled {
    const age = this.clock.monotonic() - since;
    return {
      window,
      ...(sink === undefined ? {} : { sink }),
      since: new Date(this.clock.now() - age),
      ...(isLate && { timedOut: true }),
    };
  }
}
