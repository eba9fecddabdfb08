import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { backoff } from '../common/backoff.js';
import { counted } from '../common/counted.js';
import type { SetAside } from './engine.interface.js';
import { type InFlightWindow, WindowState } from './in-flight-window.js';
import type { InFlightWindows } from './in-flight-windows.js';
import type { LeaseTerm } from './lease-term.js';

/** At most this many windows are set aside at a time. */
const MOST_SET_ASIDE = 1_000;
/** This many may be set aside whatever their size. */
const FEW = 4;
/** This many windows that were not tried before are tried before the wait between two of them doubles. */
const STEP = 4;

/**
 * Tells a bad message from an outage. A window of which everything fails says nothing about its messages: the service that the
 * handler needs may be away. What the handler makes of other windows says it, in whatever partition they are (`HandlerRuns`).
 *
 * ```text
 * all of a window fails ─▶ set aside ──a handler that began later succeeds──▶ ready again: the fault is in the messages
 *                            │ ▲
 *                            ▼ │ fails
 *                          probes: one window at a time, once, a different one each time while there are any
 * ```
 *
 * While windows are set aside and another one fails too, it is an outage: the waits between probes grow and nothing is given up.
 * Windows that failed only as probes start afresh when they are ready again.
 */
export class Evidence {
  private probed: InFlightWindow | undefined;
  private nextProbe = 0;
  /** Of the waits between probes. */
  private level = 0;
  private othersFail = false;
  private isReported = false;

  constructor(
    private readonly term: LeaseTerm,
    private readonly windows: InFlightWindows,
    /** Called when there may be evidence for windows that are set aside. */
    private readonly changed: () => void,
  ) {}

  // ---- runs of the handler

  /** A run of the handler begins. @returns its number */
  begin(): number {
    return this.term.runs.begin();
  }

  /** Stands for now: what begins from here on is later. */
  get mark(): number {
    return this.term.runs.mark;
  }

  succeeded(open: InFlightWindow, run: number): void {
    this.windows.setBlocked(open, false);
    this.term.runs.succeeded(run);
  }

  /** The handler has succeeded, here or in another partition. */
  private readonly worked = (): void => {
    if (!this.isInDoubt) {
      this.end();
      return;
    }
    if (this.isReported) {
      const { definition, parts } = this.term;
      parts.log.log(
        `${definition.label}: a window succeeded again; retrying ${counted(this.asideCount, 'window')} that failed before`,
      );
    }
    this.level = 0;
    this.othersFail = false;
    this.isReported = false;
    this.changed();
  };

  /** The term is over. */
  end(): void {
    this.term.runs.unwatch(this.worked);
  }

  /** True if a run that began after the mark has succeeded. */
  hasSince(mark: number): boolean {
    return this.term.runs.hasSince(mark);
  }

  // ---- windows that wait for evidence

  private get asideCount(): number {
    return this.windows.in(WindowState.SetAside).windows;
  }

  /** Windows are set aside, so only probes begin. */
  get isInDoubt(): boolean {
    return this.probed !== undefined || this.asideCount > 0;
  }

  /** More than one window failed: the fault is not in their messages. */
  get isOutage(): boolean {
    return this.isInDoubt && this.othersFail;
  }

  get isProbing(): boolean {
    return this.probed !== undefined;
  }

  /** For the status. */
  get summary(): SetAside | undefined {
    const { setAside } = this.windows;
    const waiting = this.probed ? [this.probed, ...setAside] : setAside;
    const [first] = waiting.toSorted((a, b) => a.record.seq - b.record.seq);
    if (!first) return undefined;
    const since = waiting.flatMap(({ record }) => record.aside ?? []).sort((a, b) => a.getTime() - b.getTime())[0];
    return {
      windows: waiting.length,
      messages: waiting.reduce((sum, { messages }) => sum + messages.length, 0),
      since: since ?? first.record.created,
      window: first.record.id,
      error: first.record.error ?? '',
    };
  }

  /** More windows may be tried and set aside; otherwise probes go round among those that are. */
  get hasRoom(): boolean {
    const { windows, messages, bytes } = this.windows.in(WindowState.SetAside);
    if (windows < FEW) return true;
    const { readAheadBytes } = this.term;
    const { readAhead } = this.term.parts.options;
    return windows < MOST_SET_ASIDE && messages < 2 * readAhead && bytes < 2 * readAheadBytes;
  }

  /** Everything in the window has failed, by the time of the mark. */
  setAside(open: InFlightWindow, failedAt: number): void {
    if (!this.isInDoubt) {
      this.level = 0;
      this.wait();
    } else if (this.isOther(open)) this.othersFail = true;
    this.term.runs.watch(this.worked);
    open.failedAt = failedAt;
    open.failedWhole = true;
    this.windows.transition(open, WindowState.SetAside);
  }

  /** Makes those ready for which there is evidence. */
  release(): void {
    for (const open of this.windows.setAside.filter(({ failedAt }) => this.hasSince(failedAt))) {
      if (open.apart) open.apart.bisection.proven = true;
      open.retry = open.failedWhole;
      this.windows.transition(open, WindowState.Ready);
    }
  }

  /** The window waits in its worker until everything works again. */
  block(open: InFlightWindow): void {
    this.windows.setBlocked(open, true);
  }

  unblock(open: InFlightWindow): void {
    this.windows.setBlocked(open, false);
  }

  /** One that was set aside was given up. */
  gaveUp(): void {
    if (this.asideCount === 0) this.othersFail = false;
  }

  // ---- probes

  /** Milliseconds until the next probe; 0 if it is due. */
  get pause(): number {
    return Math.max(0, this.nextProbe - this.term.parts.clock.monotonic());
  }

  /** The one among those set aside that was not probed for the longest time. */
  get next(): InFlightWindow | undefined {
    return this.windows.setAside[0];
  }

  /** The window is about to run as a probe. */
  probing(open: InFlightWindow): void {
    if (open.state !== WindowState.SetAside) {
      open.failedAt = 0;
      open.failedWhole = false;
    }
    open.probes += 1;
    this.probed = open;
    this.term.runs.watch(this.worked);
  }

  /** The run of the probed window is over. */
  probeEnded(open: InFlightWindow, isFailed: boolean): void {
    if (this.probed !== open) return;
    this.probed = undefined;
    if (!isFailed) return;
    const isNew = !open.failedWhole && !open.failedAsProbe;
    if (!open.failedWhole && this.isOther(open)) this.othersFail = true;
    open.failedAsProbe = true;
    // Another worker has shown in the meantime that it works: the next pass makes it ready.
    open.failedAt = this.mark;
    this.windows.transition(open, WindowState.SetAside);
    this.level += isNew ? 1 / STEP : 1;
    this.wait();
    this.report(open);
  }

  /** The fault may be in what the windows of one lane have in common, such as their key. */
  private isOther({ ofRows }: InFlightWindow): boolean {
    if (!ofRows) return true;
    const failed = this.probed ? [this.probed, ...this.windows.setAside] : this.windows.setAside;
    return failed.some((other) => other.ofRows?.lane !== ofRows.lane);
  }

  /** What the handler failed with is less than what follows from it. */
  private report({ record }: InFlightWindow): void {
    const { definition, counters, parts } = this.term;
    const { asideCount, othersFail } = this;
    const what = othersFail
      ? `${counted(asideCount, 'window')} failed, the last with: ${record.error}. No window is given up: all are retried until one ` +
        'succeeds. Fix what they all need'
      : `window ${record.id} failed, and there is no other window that could show whether the fault is in its messages: ${record.error}. ` +
        'It is retried, and the next one is tried at once';
    const error = new MinibatchError(ErrorCode.AllFailed, `${definition.label}: ${what}`);
    counters.failed(parts.clock.now(), error);
    if (!othersFail || this.isReported) return;
    this.isReported = true;
    parts.log.error(error.message);
  }

  private wait(): void {
    const { definition, parts } = this.term;
    this.nextProbe = parts.clock.monotonic() + backoff(definition.retry, 1 + Math.floor(this.level));
  }
}
