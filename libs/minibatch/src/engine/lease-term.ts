import type { Log } from '../common/log.js';
import { setMaxListeners } from 'node:events';
import { stackOf } from '../errors/error-text.js';
import { ErrorCode, messageOf } from '../errors/minibatch.error.js';
import type { Activity } from '../common/activity.js';
import { backoff } from '../common/backoff.js';
import type { Ages } from '../common/ages.js';
import { type Clock, delay } from '../common/clock.js';
import { guarded } from '../common/guarded-signal.js';
import type { Caller } from '../common/own-calls.js';
import type { Lease, StreamStore } from '../storage/stream-store.interface.js';
import type { Calls } from './calls.js';
import type { ConsumerCounters } from './counters.js';
import type { ConsumerDefinition, EngineOptions, Retention, Stage } from './engine.interface.js';
import type { HandlerRuns } from './handler-runs.js';
import { isLeaseLost, type LeaseKeeper } from './lease-keeper.js';
import { RateLimiter } from './rate-limit.js';
import { StageState, type StoredRows } from './stage-state.js';
import type { Workers } from './workers.js';

/** Waits between the tries of a store that does not answer. */
const STORE_BACKOFF = { base: 100, max: 5_000, jitter: 0.3 };

/** What the engine gives to all of a consumer's parts. */
export interface EngineParts {
  readonly store: StreamStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly activity: Activity;
  readonly keeper: LeaseKeeper;
  readonly options: EngineOptions;
  readonly retention: (stream: string) => Retention | undefined;
  readonly ages: Ages;
  /** How many partitions a stream has. */
  readonly partitions: (stream: string) => number;
  /** A consumer has read all that there is: look often for more. */
  readonly caughtUp: () => void;
  /** A commit has returned how often consumers of the stream were asked for something, see `StreamInfo`. */
  readonly asked: (stream: string, count: number) => void;
  /** Messages have come on the stream. */
  readonly wake: (stream: string) => void;
}

/**
 * The time between the acquisition of a consumer's lease and its end, by loss or by stop; what the parts that work in this time
 * share. Ends once and for all: the next acquisition begins a new one.
 */
export class LeaseTerm {
  private readonly overSource = new AbortController();
  private readonly closingSource = new AbortController();
  /** Aborts when nothing done here counts any more; every window's signal hangs on it. */
  readonly over: AbortSignal = this.overSource.signal;
  /** Aborts when no new attempt may begin: the consumer is stopping, or the term is over. */
  readonly closing: AbortSignal = this.closingSource.signal;
  /** True while the store does not answer. */
  unavailable = false;
  /** What the signals say, too: their getters cost more, and a pass asks several times. */
  private hasEnded = false;
  private hasClosed = false;
  /** Present if the handler may begin only so often. */
  readonly limiter: RateLimiter | undefined;
  /** The death of a process that held the lease says nothing about windows without an answer: their handlers run in others. */
  readonly runsElsewhere: boolean;
  /** Present if the consumer is a stage. */
  readonly state: StageState | undefined;
  /** Partitions of the consumer that this process holds: they share what it may read ahead. */
  share = 1;
  /** Who calls handlers and sinks. */
  readonly caller: Caller;

  constructor(
    readonly definition: ConsumerDefinition,
    readonly lease: Lease,
    /** False if the holder before was cut off: its process died, or was stopped for longer than the lease. */
    readonly clean: boolean,
    readonly counters: ConsumerCounters,
    readonly parts: EngineParts,
    /** Handlers and sinks in flight, also those of earlier terms. */
    readonly calls: Calls,
    readonly workers: Workers,
    readonly runs: HandlerRuns,
  ) {
    // Every window, every wait hangs on them for a time: there may be many, but they don't pile up.
    setMaxListeners(0, this.over, this.closing);
    const { rateLimit } = definition;
    this.runsElsewhere = definition.executor?.executor.runsElsewhere === true;
    const { stream, group } = definition.key;
    this.limiter = rateLimit && new RateLimiter(rateLimit, parts.clock, parts.activity);
    this.state = definition.stage && this.newState(definition.stage);
    this.limiter?.divide(parts.partitions(stream));
    this.caller = { store: parts.store, stream, group, workers: definition.workers };
  }

  private newState(stage: Stage): StageState {
    const { store } = this.parts;
    const { key, fence } = this.lease;
    const rows: StoredRows = {
      read: (slots) => this.persist('read state', () => store.readState!(key, slots)),
      due: (before, after, limits) => this.persist('read state', () => store.dueState!(key, before, after, limits)),
      list: (after, limits) => this.persist('read state', () => store.listState!(key, after, limits)),
    };
    return new StageState(fence, rows, stage);
  }

  /** Bytes that may be read ahead. */
  get readAheadBytes(): number {
    return Math.ceil(this.parts.options.readAheadBytes / this.share);
  }

  get isOver(): boolean {
    return this.hasEnded;
  }

  get isClosing(): boolean {
    return this.hasClosed;
  }

  /** No new attempt begins. */
  close(): void {
    this.hasClosed = true;
    this.closingSource.abort();
  }

  end(): void {
    this.close();
    this.hasEnded = true;
    this.overSource.abort();
  }

  /** Makes sure of a lease that may be another's by now. Resolves with false if the term is over. */
  async isSure(): Promise<boolean> {
    const { keeper } = this.parts;
    if (!keeper.isFresh(this.lease)) {
      // Rejects only when the term is over.
      await this.persist('renew the lease', () => keeper.ensure(this.lease)).catch(() => undefined);
    }
    return !this.isOver;
  }

  /** A signal for one attempt at a window, which aborts when the term is over. */
  signal(): AttemptSignal {
    return new AttemptSignal(this.over, this.listenerFailed, this.closing);
  }

  private readonly listenerFailed = (error: unknown): void => {
    const { definition, counters, parts } = this;
    counters.failed(parts.clock.now(), error, ErrorCode.HandlerFailed);
    parts.log.error(
      `${definition.label}: a listener of window.signal or window.closing threw, which changes nothing else: ${messageOf(error)}`,
      stackOf(error),
    );
  };

  /**
   * Calls the store until it answers. A lost lease ends the term; everything else is retried with backoff, since
   * every method of the port may be repeated. Rejects only when the term is over.
   */
  async persist<R>(what: string, call: () => Promise<R>): Promise<R> {
    const { clock, log, activity, keeper } = this.parts;
    for (let failures = 0; ; failures += 1) {
      if (this.isOver) throw new LeaseTermOver();
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
        // The application closes its connection when the term is over, also in the middle of a read.
        if (this.isOver) throw new LeaseTermOver();
        this.counters.failed(clock.now(), error);
        this.unavailable = true;
        if (failures === 0) log.warn(`${this.definition.label}: can't ${what}, retrying: ${messageOf(error)}`);
        await activity.aside(delay(clock, backoff(STORE_BACKOFF, failures + 1), this.over));
      }
    }
  }
}

/**
 * The signal of one attempt. Its own, because what a handler hangs on it is to go with the window, while the term may last for weeks.
 * And made only when somebody asks for it: most handlers never do, and a signal costs more than all the rest of a window of one.
 */
export class AttemptSignal {
  private own: AbortController | undefined;
  private aborted: { readonly reason: unknown } | undefined;
  private disposed = false;
  private follow: (() => void) | undefined;
  private stop: AttemptSignal | undefined;

  constructor(
    private readonly over: AbortSignal,
    /** Told what listeners throw. */
    private readonly threw: (error: unknown) => void,
    /** Aborts when the consumer stops. @default only when the term is over */
    private readonly stopping = over,
  ) {}

  get signal(): AbortSignal {
    if (!this.own) {
      this.own = new AbortController();
      guarded(this.own.signal, this.threw);
      if (this.aborted) this.own.abort(this.aborted.reason);
      else if (this.over.aborted) this.abort(this.over.reason);
      else if (!this.disposed) {
        this.follow = () => this.abort(this.over.reason);
        this.over.addEventListener('abort', this.follow, { once: true });
      }
    }
    return this.own.signal;
  }

  /** For the handler, for the same reason one of its own. */
  get closing(): AbortSignal {
    return (this.stop ??= new AttemptSignal(this.stopping, this.threw)).signal;
  }

  abort(reason: unknown): void {
    this.aborted ??= { reason };
    this.own?.abort(reason);
  }

  /** The attempt is over: what becomes of the term does not matter to it any more. */
  dispose(): void {
    this.stop?.dispose();
    if (this.over.aborted) this.abort(this.over.reason);
    if (this.follow) this.over.removeEventListener('abort', this.follow);
    this.disposed = true;
  }
}

/** A signal that stands for one try after the other: one that was given up does not abort the next. */
export class RenewedSignal {
  private current: AttemptSignal;

  constructor(private readonly term: LeaseTerm) {
    this.current = term.signal();
  }

  get signal(): AbortSignal {
    return this.current.signal;
  }

  get closing(): AbortSignal {
    return this.current.closing;
  }

  renew(): void {
    this.current.dispose();
    this.current = this.term.signal();
  }

  abort(reason: unknown): void {
    this.current.abort(reason);
  }

  end(): void {
    this.current.dispose();
  }
}

/** Ends the work of a part whose term is over; never seen outside the loop. */
export class LeaseTermOver extends Error {
  constructor() {
    super('term is over');
  }
}
