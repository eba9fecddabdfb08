import type { Committer } from './committer.js';
import { hasHook } from './emitter-hooks.js';
import type { Evidence } from './evidence.js';
import { type InFlightWindow, WindowState } from './in-flight-window.js';
import type { InFlightWindows } from './in-flight-windows.js';
import type { LeaseTerm } from './lease-term.js';
import type { PassScheduler } from './pass-scheduler.js';
import type { RunResult, WindowRunner } from './window-runner.js';

interface Next {
  readonly open: InFlightWindow;
  /** It is tried to see whether anything works. */
  readonly isProbe: boolean;
}

/**
 * Gives ready windows to free workers. Which window is next, and whether one may start at all, depends on what is set aside
 * (`Evidence`) and on suspects: windows that may have ended a process. Those run one at a time, and each is committed before the next
 * begins, or what was finished before the bad one would be redelivered forever.
 */
export class WindowDispatcher {
  constructor(
    private readonly term: LeaseTerm,
    private readonly windows: InFlightWindows,
    private readonly evidence: Evidence,
    private readonly runner: WindowRunner,
    private readonly committer: Committer,
    private readonly passes: PassScheduler,
  ) {}

  /** Windows that could start now, beyond those that are ready. */
  get freeWorkers(): number {
    const { evidence, windows } = this;
    // What is read is for the stage, which has no worker.
    if (this.isFedByRows) return windows.isIntakeFree ? 1 : 0;
    // One window that was not tried yet has to be there, as a probe, or those that are set aside might never get evidence.
    if (evidence.isInDoubt) return evidence.hasRoom && windows.nextUntried === undefined ? 1 : 0;
    const { free } = this.term.workers;
    const workers = windows.hasIsolated ? Math.min(free, windows.isQuiet ? 1 : 0) : free;
    return workers - windows.in(WindowState.Ready).windows;
  }

  /** Windows that the rate limit lets begin now, beyond those that are ready. */
  get allowedStarts(): number {
    const { limiter } = this.term;
    return limiter && !this.isFedByRows ? limiter.free - this.windows.in(WindowState.Ready).windows : Infinity;
  }

  /** A worker is free, and the rate limit lets nothing begin. */
  get isThrottled(): boolean {
    return this.term.limiter !== undefined && this.freeWorkers > 0 && this.allowedStarts <= 0;
  }

  /** A window that is ready, or will be soon, can begin: a worker is free, and nothing waits for the rate limit. */
  get canBegin(): boolean {
    return this.term.workers.hasFree && this.runner.throttled === 0;
  }

  /** Milliseconds until one of the windows that run can finish, as far as is known; Infinity if none runs. */
  get hold(): number {
    return this.runner.hold(this.windows.in(WindowState.Running).windows);
  }

  /** Milliseconds until a probe may start; undefined if none is waited for. */
  get probeWait(): number | undefined {
    const { evidence } = this;
    if (!evidence.isInDoubt || evidence.isProbing) return undefined;
    if (evidence.pause > 0) return evidence.pause;
    // It has become due since this pass chose a window.
    return this.mayStart && this.next() ? 0 : undefined;
  }

  /** The handler's windows are made of rows. */
  private get isFedByRows(): boolean {
    return this.term.definition.stage?.open !== undefined;
  }

  /** The stage works beside the workers, one window after another; not while windows that may have ended a process run alone. */
  private startIntake(): void {
    const { nextIntake, hasIsolated } = this.windows;
    if (nextIntake && !hasIsolated) this.start(nextIntake, false);
  }

  /** Starts as many windows as there are workers. */
  startReady(): void {
    const { windows, evidence } = this;
    if (this.isFedByRows) this.startIntake();
    while (this.term.workers.hasFree) {
      if (evidence.isInDoubt) evidence.release();
      const next = this.next();
      if (!next) return;
      const { open, isProbe } = next;
      windows.isolate(open);
      if (windows.hasIsolated && !windows.isQuiet) return;
      // While windows are set aside others begin out of order. Where handlers can't end this process, nobody asks.
      const isOutOfOrder = open.suspect || evidence.isInDoubt || (open.state === WindowState.Ready && open.retry);
      open.startedOutOfOrder = isOutOfOrder && !this.term.runsElsewhere;
      if (isProbe) evidence.probing(open);
      this.start(open, isProbe);
    }
  }

  /** An operator gives the window up: it ends as dead letters, whatever it waits for. */
  giveUp(open: InFlightWindow): void {
    open.givenUp = true;
    open.stop?.abort();
    if (open.state === WindowState.Running) return;
    this.start(open, false);
    this.evidence.gaveUp();
  }

  private get mayStart(): boolean {
    return this.term.workers.hasFree && (!this.windows.hasIsolated || this.windows.isQuiet);
  }

  private next(): Next | undefined {
    const { evidence, windows } = this;
    const { nextRetry, nextFresh } = windows;
    // After a takeover windows that were never set aside may come before one that runs again.
    const isRetryNext = nextRetry && (evidence.isInDoubt || !nextFresh || nextRetry.record.seq < nextFresh.record.seq);
    if (isRetryNext) return { open: nextRetry, isProbe: false };
    if (!evidence.isInDoubt) return nextFresh && { open: nextFresh, isProbe: false };
    if (evidence.isProbing) return undefined;
    const isDue = evidence.pause === 0;
    const untried = evidence.hasRoom ? windows.nextUntried : undefined;
    // Of a lane from which one is set aside it would show no more than that one does.
    if (untried && (isDue || !(evidence.isOutage || windows.isLaneAside(untried))))
      return { open: untried, isProbe: true };
    if (!isDue) return undefined;
    if (nextFresh?.failedAsProbe && evidence.hasRoom) return { open: nextFresh, isProbe: true };
    // Another one of its key may still run.
    return evidence.next && !windows.isLaneTaken(evidence.next) ? { open: evidence.next, isProbe: true } : undefined;
  }

  private start(open: InFlightWindow, isProbe: boolean): void {
    this.windows.transition(open, WindowState.Running);
    if (!open.isIntake) this.term.workers.take();
    this.term.counters.begun += 1;
    this.passes.startTask(
      () => this.runner.run(open, isProbe),
      (result) => {
        this.ended(open, isProbe, result);
        if (!open.isIntake) this.term.workers.release();
      },
    );
  }

  private ended(open: InFlightWindow, isProbe: boolean, result: RunResult | undefined): void {
    const isSetAside = result?.kind === 'set aside';
    if (result?.kind === 'finished') {
      // Only for the commit's hook: otherwise the decoded messages are freed with the attempt.
      if (hasHook(this.term, 'onCommit')) open.handled = result.window;
      this.committer.add(open);
    } else if (isSetAside && !isProbe) {
      this.evidence.setAside(open, this.evidence.mark);
    } else if (!isSetAside && result?.kind !== 'given back') {
      this.windows.transition(open, WindowState.Abandoned);
    }
    if (isProbe) this.evidence.probeEnded(open, isSetAside);
  }
}
