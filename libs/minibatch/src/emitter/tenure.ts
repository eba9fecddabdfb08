import { setMaxListeners } from 'node:events';
import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import type { Activity } from '../internal/activity.js';
import { backoff } from '../internal/backoff.js';
import { type Clock, delay } from '../internal/clock.js';
import type { Lease, StreamStore } from '../storage/stream-store.interface.js';
import type { ConsumerCounters } from './counters.js';
import type { ConsumerDefinition, EngineLog, EngineOptions, Retention } from './emitter.interface.js';
import { isLeaseLost, type LeaseKeeper } from './lease-keeper.js';

/** Waits between the tries of a store that does not answer. */
const STORE_BACKOFF = { base: 100, max: 5_000, jitter: 0.3 };

/** What the engine gives to all of a consumer's parts. */
export interface EngineParts {
  readonly store: StreamStore;
  readonly clock: Clock;
  readonly log: EngineLog;
  readonly activity: Activity;
  readonly keeper: LeaseKeeper;
  readonly options: EngineOptions;
  readonly retention: (stream: string) => Retention | undefined;
  /** A consumer has read all that there is: look often for more. */
  readonly starved: () => void;
}

/**
 * The time between the acquisition of a consumer's lease and its end, by loss or by stop; what the parts that work in this time
 * share. Ends once and for ever: the next acquisition begins a new one.
 */
export class Tenure {
  /** Aborts when nothing done here counts any more; every window's signal hangs on it. */
  readonly over = new AbortController();
  /** Aborts when no new attempt may begin: the consumer is stopping, or the tenure is over. */
  readonly closing = new AbortController();
  /** True while the store does not answer. */
  unavailable = false;

  constructor(
    readonly definition: ConsumerDefinition,
    readonly lease: Lease,
    /** False if the holder before was cut off: its process died, or was stopped for longer than the lease. */
    readonly clean: boolean,
    readonly counters: ConsumerCounters,
    readonly parts: EngineParts,
  ) {
    // Every window, every wait hangs on them for a time: there may be many, but they don't pile up.
    setMaxListeners(0, this.over.signal, this.closing.signal);
  }

  get isOver(): boolean {
    return this.over.signal.aborted;
  }

  get isClosing(): boolean {
    return this.closing.signal.aborted;
  }

  end(): void {
    this.closing.abort();
    this.over.abort();
  }

  /**
   * A signal for one attempt at a window, which aborts when the tenure is over. Its own, because what a handler hangs on it is to
   * go with the window: the tenure may last for weeks.
   */
  signal(): { readonly signal: AbortSignal; readonly abort: (reason: unknown) => void; readonly dispose: () => void } {
    const own = new AbortController();
    const abort = () => own.abort(this.over.signal.reason);
    if (this.isOver) abort();
    else this.over.signal.addEventListener('abort', abort, { once: true });
    return {
      signal: own.signal,
      abort: (reason) => own.abort(reason),
      dispose: () => this.over.signal.removeEventListener('abort', abort),
    };
  }

  /**
   * Calls the store until it answers. A lost lease ends the tenure; everything else is tried again with backoff, since
   * every method of the port may be repeated. Rejects only when the tenure is over.
   */
  async persist<R>(what: string, call: () => Promise<R>): Promise<R> {
    const { clock, log, activity, keeper } = this.parts;
    for (let failures = 0; ; failures += 1) {
      if (this.isOver) throw new TenureOver();
      try {
        const result = await call();
        if (this.unavailable && failures > 0) log.log(`${this.definition.label}: the store answers again`);
        this.unavailable = false;
        return result;
      } catch (error) {
        if (isLeaseLost(error)) {
          keeper.drop(this.lease);
          this.end();
          throw error;
        }
        this.counters.failed(clock.now(), error);
        this.unavailable = true;
        if (failures === 0) log.warn(`${this.definition.label}: can't ${what}, trying again: ${messageOf(error)}`);
        await activity.aside(delay(clock, backoff(STORE_BACKOFF, failures + 1), this.over.signal));
      }
    }
  }
}

/** Calls one of an own strategy's notifications; what it throws, at once or later, is counted and never stops the loop. */
export function notify(tenure: Tenure, what: string, call: () => unknown): void {
  const threw = (error: unknown) => {
    const { definition, counters, parts } = tenure;
    const wrapped = new MinibatchError(
      ErrorCode.EmitterFailed,
      `${what} of the emitter of ${definition.label} threw: ${messageOf(error)}. It is only told what happens; mend it`,
      { cause: error },
    );
    counters.failed(parts.clock.now(), wrapped);
    parts.log.error(wrapped.message);
  };
  try {
    const answer = call();
    if (answer instanceof Promise) answer.catch(threw);
  } catch (error) {
    threw(error);
  }
}

/** Ends the work of a part whose tenure is over; never seen outside the loop. */
export class TenureOver extends Error {
  constructor() {
    super('tenure is over');
  }
}
