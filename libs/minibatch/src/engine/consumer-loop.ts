import { type InFlightWindow, WindowState } from './in-flight-window.js';
import { InFlightWindows } from './in-flight-windows.js';
import { isA } from '../errors/error-text.js';
import { messageOf, MinibatchError } from '../errors/minibatch.error.js';
import { emitterFailed } from '../windows/emitter-failure.js';
import type { Growth, WindowRequest } from '../storage/stream-store.interface.js';
import { Ancestors } from './ancestors.js';
import { Committer } from './committer.js';
import type { BlockedExecutor, BlockedSink, ConsumerActivity, SetAside } from './engine.interface.js';
import { Evidence } from './evidence.js';
import { Expiry } from './expiry.js';
import { isLeaseLost } from './lease-keeper.js';
import type { LeaseTerm } from './lease-term.js';
import { PassScheduler } from './pass-scheduler.js';
import { PassTimer } from './pass-timer.js';
import { ReadAhead } from './read-ahead.js';
import type { Standing } from './standing.js';
import { RowWindows } from './row-windows.js';
import { takeOver } from './take-over.js';
import { WindowClaimer } from './window-claimer.js';
import { WindowDispatcher } from './window-dispatcher.js';
import { WindowRequests } from './window-requests.js';
import { WindowRunner } from './window-runner.js';

/**
 * One consumer at work, as long as it holds its lease. The only writer of its claims and commits.
 *
 * Four kinds of tasks overlap: a read ahead, a claim, a commit point, each at most once, and up to `workers` windows. A pass
 * (`PassScheduler`) starts what can be started.
 *
 * ```text
 * read ──▶ buffer ──cut──▶ claim ──▶ ready ──▶ running ──▶ finished ──▶ commit
 *  ReadAhead         WindowClaimer      WindowDispatcher          Committer
 * ```
 *
 * Where each window stands is in `InFlightWindows`.
 */
export class ConsumerLoop {
  private readonly windows = new InFlightWindows();
  private readonly passes: PassScheduler;
  private readonly timer: PassTimer;
  private readonly readAhead: ReadAhead;
  private readonly committer: Committer;
  private readonly evidence: Evidence;
  private readonly runner: WindowRunner;
  private readonly dispatcher: WindowDispatcher;
  private readonly claimer: WindowClaimer;
  /** Present if the handler's windows are made of rows. */
  private readonly rows: RowWindows | undefined;
  private readonly requests: WindowRequests;
  private readonly expiry: Expiry;
  private readonly ancestors: Ancestors;

  private isPaused = false;
  private standing: Standing = 'busy';
  private hasInitialised = false;
  private isRecovered = false;
  private readonly ended: Promise<void>;
  private end!: () => void;
  private fail!: (error: unknown) => void;

  constructor(
    private readonly term: LeaseTerm,
    /** Called when it stands otherwise than before; at first it is busy. */
    private readonly stands: (standing: Standing) => void,
  ) {
    this.ended = new Promise((resolve, reject) => {
      this.end = resolve;
      this.fail = reject;
    });
    // Before `run` waits for it.
    this.ended.catch(() => undefined);
    const { windows } = this;
    const passes = (this.passes = new PassScheduler(
      term,
      () => this.passAndTell(),
      (error) => this.fail(error),
    ));
    this.timer = new PassTimer(term.parts.clock, (wasSetBack) => this.waited(wasSetBack));
    this.readAhead = new ReadAhead(term);
    this.committer = new Committer(term, windows, passes, (open) => {
      this.requests.left(open);
      this.rows?.left(open);
      if (!open.ofRows) this.readAhead.owned.release(open.messages);
    });
    this.evidence = new Evidence(term, windows, () => passes.schedule());
    this.runner = new WindowRunner(
      term,
      this.evidence,
      () => passes.schedule(),
      (open, most) => this.giveBack(open, most),
    );
    this.dispatcher = new WindowDispatcher(term, windows, this.evidence, this.runner, this.committer, passes);
    this.claimer = new WindowClaimer(term, windows, this.readAhead, this.committer, passes);
    const { stage } = term.definition;
    this.rows =
      stage?.open &&
      new RowWindows(term, { ...stage, open: stage.open }, windows, () => this.claimer.takeSeq(), passes);
    this.requests = new WindowRequests(term, windows, this.dispatcher, passes);
    this.expiry = new Expiry(term, this.readAhead, this.claimer, passes);
    this.ancestors = new Ancestors(term, () => passes.schedule());
    term.workers.freed = () => passes.schedule();
    term.over.addEventListener('abort', () => this.finish(), { once: true });
    term.closing.addEventListener('abort', () => passes.schedule(), { once: true });
  }

  /**
   * Takes up the work. Resolves when the lease term is over, or has been closed and all that was in flight is committed. Rejects if it
   * can't continue, because the strategy does not start or something unexpected went wrong.
   */
  async run(): Promise<void> {
    const { parts } = this.term;
    try {
      await parts.activity.track(() => this.recover());
    } catch (error) {
      if (!this.term.isOver && !isLeaseLost(error)) throw error;
      this.term.end();
    }
    if (this.term.definition.drained) this.flush();
    this.passes.schedule();
    await this.ended;
  }

  // ---- for the status

  get recovering(): boolean {
    return !this.isRecovered;
  }

  /** True once the strategy's `init` was called. */
  get initialised(): boolean {
    return this.hasInitialised;
  }

  get buffered(): number {
    return this.readAhead.buffer.length;
  }

  /** Windows claimed and not committed. */
  get inFlight(): number {
    return this.windows.size;
  }

  /** Windows in their handler or their sinks. */
  get running(): number {
    return this.windows.in(WindowState.Running).windows;
  }

  /** Windows committed since `close`. */
  get drained(): number {
    return this.committer.drained;
  }

  /** True if only new messages, or the clock, bring it any further: worth a poll. */
  get awaitingMessages(): boolean {
    return this.isRecovered && !this.isPaused && this.readAhead.isExhausted;
  }

  get activity(): ConsumerActivity {
    if (this.term.unavailable) return 'unavailable';
    if (this.runner.blocked || this.windows.hasBlocked || this.evidence.isOutage) return 'blocked';
    if (this.runner.retrying > 0) return 'retrying';
    if (this.runner.throttled > 0) return 'throttled';
    if (this.running > 0) return 'handling';
    if (this.isPaused) return 'paused';
    if (this.evidence.isInDoubt) return 'blocked';
    if (this.isThrottled) return 'throttled';
    return this.claimer.isStalled || this.claimer.isResting ? 'stalled' : 'waiting';
  }

  get blockedSinks(): readonly BlockedSink[] {
    return this.runner.blockedSinks;
  }

  get blockedExecutor(): BlockedExecutor | undefined {
    return this.runner.blockedExecutor;
  }

  /** See `ConsumerStatus`. */
  get heldBackBy(): number | undefined {
    return this.ancestors.holdingBack;
  }

  /** See `ConsumerStatus`. */
  get heldBackUntil(): Date | undefined {
    return this.ancestors.until;
  }

  /** Windows that wait for evidence. */
  get setAside(): SetAside | undefined {
    return this.evidence.summary;
  }

  // ---- from outside

  /** Messages have come. */
  wake(): void {
    this.readAhead.messagesArrived();
    this.passes.schedule();
  }

  setPaused(paused: boolean): void {
    if (this.isPaused === paused) return;
    this.isPaused = paused;
    this.passes.schedule();
  }

  /** How often the stream was cleared. What was read ahead is read again, for the store knows what of it is cleared. */
  setClearings(count: number): void {
    if (!this.expiry.setClearings(count)) return;
    this.readAhead.reload();
    this.passes.schedule();
  }

  /** How its stream has grown. */
  setGrowths(growths: readonly Growth[]): void {
    this.ancestors.follow(growths);
  }

  /** What operators want done with windows in flight. */
  setRequests(requests: readonly WindowRequest[]): void {
    this.requests.receive(requests);
  }

  /** Emits what is there now, ready or not. */
  flush(): void {
    this.readAhead.flush();
    this.claimer.ask();
    this.passes.schedule();
  }

  // ---- the pass

  private passAndTell(): void {
    this.pass();
    const { awaitingMessages, buffered, inFlight } = this;
    const standing = awaitingMessages ? (buffered + inFlight > 0 ? 'holding' : 'waiting') : 'busy';
    if (standing === this.standing) return;
    this.standing = standing;
    this.stands(standing);
  }

  private pass(): void {
    const { term, dispatcher } = this;
    if (term.isOver || !this.isRecovered) return;
    this.readAhead.reloadIfDue();
    if (!term.isClosing) this.expiry.expire();
    if (this.isActive) {
      // First of all: what runs no longer counts against reading ahead.
      dispatcher.startReady();
      // The strategy holds windows back that are due and not full, until one can start.
      if (this.readAhead.setFreeWorkers(Math.min(dispatcher.freeWorkers, dispatcher.allowedStarts))) this.claimer.ask();
      this.readOn();
      this.claimer.claimReady();
      this.rows?.claimReady();
    }
    this.committer.commitIfDue(this.hold);
    if (term.isClosing && this.windows.isQuiet && !this.isClaiming && !this.expiry.isExpiring) {
      term.end();
      return;
    }
    this.timer.arm(this.wait);
    if (term.definition.drained && this.isDrained) term.definition.drained(term.definition.key.partition);
  }

  /** Nothing new is read, claimed or started while paused, stopping, or held back. */
  private get isActive(): boolean {
    return !this.isPaused && !this.term.isClosing && this.ancestors.holdingBack === undefined;
  }

  /**
   * Milliseconds until a window can finish, at the earliest: a commit gains nothing by waiting for it longer. Infinity if none runs or
   * is about to. A window that is being claimed is about to run.
   */
  private get hold(): number {
    const { windows, dispatcher } = this;
    const isNextReady = windows.nextFresh !== undefined && !this.isPaused && !windows.hasIsolated;
    if (dispatcher.canBegin && (this.isClaiming || isNextReady)) return 0;
    return dispatcher.hold;
  }

  private get isDrained(): boolean {
    const { readAhead, rows, windows, expiry } = this;
    if (readAhead.buffer.flushing || this.isClaiming || rows?.hasMore) return false;
    return !expiry.isExpiring && windows.size === 0;
  }

  private get isClaiming(): boolean {
    return this.claimer.isClaiming || this.rows?.isClaiming === true;
  }

  /** A worker is free, there is something to do, and the rate limit lets nothing begin. */
  private get isThrottled(): boolean {
    const { buffer, isIdle } = this.readAhead;
    return (buffer.length > 0 || isIdle) && this.dispatcher.isThrottled;
  }

  private finish(): void {
    this.timer.cancel();
    this.evidence.end();
    this.end();
  }

  // ---- reading

  private readOn(): void {
    const { readAhead, claimer } = this;
    if (readAhead.isReading || claimer.isResting || this.rows?.isBacklogged) return;
    const plan = claimer.plan(this.term.parts.clock.now());
    if (!plan) return;
    readAhead.follow(plan);
    const { wanted } = readAhead;
    if (wanted === 0 || this.hasReadEnough) return;
    this.passes.startTask(async () => {
      try {
        await readAhead.read(wanted);
      } finally {
        claimer.ask();
      }
    });
  }

  /** Two blocks, one being worked on and one being read, are what it takes to never wait. */
  private get hasReadEnough(): boolean {
    const { readAheadBytes } = this.term;
    const { readAhead } = this.term.parts.options;
    const { buffer } = this.readAhead;
    const { messages, bytes } = this.windows.readAhead;
    // Then only the buffer grows, which has bounds of its own, and a window may need all of it.
    if (messages === 0) return false;
    return messages + buffer.length >= 2 * readAhead || bytes + buffer.bytes >= 2 * readAheadBytes;
  }

  private giveBack(open: InFlightWindow, most: number): Promise<void> {
    const { stage, emitter } = this.term.definition;
    return this.claimer.giveBack(open, () => stage?.givenBack?.(emitter, most));
  }

  // ---- waiting

  /** Milliseconds until the next pass is due by the clock. */
  private get wait(): number {
    const { term, isActive, expiry } = this;
    let wait = this.claimer.wait(term.parts.clock.now(), isActive);
    if (isActive) {
      if (term.limiter && this.isThrottled) wait = Math.min(wait, term.limiter.rest);
      wait = Math.min(wait, this.dispatcher.probeWait ?? Infinity);
    }
    if (!expiry.isExpiring && !term.isClosing) wait = Math.min(wait, expiry.wait ?? Infinity);
    return Math.min(wait, this.committer.wait ?? Infinity);
  }

  private waited(wasSetBack: boolean): void {
    this.claimer.waited();
    // A time that the strategy asked for may be far away now.
    if (wasSetBack) this.claimer.ask();
    this.passes.schedule();
  }

  // ---- recovery

  /** Takes up where an earlier holder of the lease left off. */
  private async recover(): Promise<void> {
    const { term, windows, committer } = this;
    const { progress, windows: recovered, nextSeq, lastEnd } = await takeOver(term, this.rows);
    committer.resume(progress);
    this.claimer.resume(nextSeq);
    for (const open of recovered) windows.add(open);
    const taken = this.rows ? await this.rows.resume(recovered) : recovered;
    for (const open of taken) {
      if (!open.ofRows) this.readAhead.owned.add(open.messages);
      const vanished = open.messages.length === 0 && open.record.messageIds.length > 0;
      if (vanished || open.record.dropped) committer.add(open);
      // It takes new evidence: the service may be away now.
      else if (open.record.aside) this.evidence.setAside(open, this.evidence.mark);
      else windows.transition(open, WindowState.Ready);
      if (open.state !== WindowState.SetAside) windows.isolate(open);
    }
    this.hasInitialised = true;
    await initEmitter(term, lastEnd);
    this.isRecovered = true;
    this.requests.ready();
  }
}

/** Tells the strategy where the consumer stands. @throws MinibatchError `EmitterFailed` */
async function initEmitter({ definition, parts }: LeaseTerm, lastEnd: Date | undefined): Promise<void> {
  const { emitter, emitterContext, key } = definition;
  const context = {
    ...emitterContext,
    stream: key.stream,
    group: key.group,
    now: parts.clock.now(),
    ...(lastEnd ? { lastEnd } : {}),
  };
  try {
    await emitter.init(context);
  } catch (error) {
    if (isA(error, MinibatchError)) throw error;
    const what = `failed in init(): ${messageOf(error)}. No window is made until it resolves; fix it`;
    throw emitterFailed(emitter, key, what, { cause: error });
  }
}
