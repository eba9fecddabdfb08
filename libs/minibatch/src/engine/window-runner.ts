import { isA } from '../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import { backoff } from '../common/backoff.js';
import type { BatchWindow } from './batch-window.js';
import { Bisection } from './bisection.js';
import { DEATHS, notedAt } from './deaths.js';
import { Delivery } from './delivery.js';
import type { EffectsTooLarge } from './effects-too-large.js';
import type { BlockedExecutor, BlockedSink } from './engine.interface.js';
import type { Evidence } from './evidence.js';
import { type InFlightWindow, stopSignal, type TakenApart, takenApart } from './in-flight-window.js';
import { PartsRunner, type Probe } from './parts-runner.js';
import { Pauses } from './pauses.js';
import { admit, withdraw } from './rate-starts.js';
import { reschedule } from './reschedule.js';
import type { LeaseTerm } from './lease-term.js';
import { indicesOf, isForStage, Trials, windowOf } from './window-trial.js';
import { counted } from '../common/counted.js';

/** What became of a window: finished and ready for its commit, waiting for evidence, or left open for the next holder of the lease. */
export type RunResult =
  | { readonly kind: 'finished'; readonly window?: BatchWindow }
  | { readonly kind: 'set aside' | 'left open' | 'given back' };

const LEFT_OPEN: RunResult = { kind: 'left open' };
const SET_ASIDE: RunResult = { kind: 'set aside' };
const GIVEN_BACK: RunResult = { kind: 'given back' };
/** The clock may jump: it is read again after at most this long; milliseconds. */
const LONGEST_PAUSE = 60_000;

/** Parts of a window that makes too much are to have so much less than would fit. */
const MARGIN = 1.25;

/** One message of a window. */
const ONE = { from: 0, to: 1 };

/** What there is more to do: nothing special, or to try one message of the window, to see whether anything works. */
type Step = RunResult | Probe;

/**
 * Takes a claimed window through its handler and its sinks.
 *
 * ```text
 * (wait until nextTry) ─▶ handler ──resolved──▶ sinks ──all resolved──▶ finished
 *        ▲                   │ threw               │ rejected: this sink again, with backoff, without end
 *        └── attempt + 1, ◀──┤                     └──▶ (the messages are not to blame)
 *            nextTry stored  │ attempts used up
 *                            ▼
 *                     taken apart: part ─▶ handler ─▶ sinks, see bisection.ts
 *                            │
 *                            ├─ some got through, others failed once more ─▶ dead letters ─▶ finished
 *                            └─ none got through ─▶ set aside until there is evidence, see evidence.ts
 * ```
 *
 * A probe says whether anything works: it runs the whole window once, then one message of it, and counts as no attempt.
 *
 * Nothing irrevocable begins on a doubtful lease: it is renewed first.
 */
export class WindowRunner {
  /** Windows that wait for their next attempt. */
  retrying = 0;
  private readonly delivery: Delivery;
  private readonly trials: Trials;
  private readonly parts: PartsRunner;
  private readonly pauses: Pauses;

  constructor(
    private readonly term: LeaseTerm,
    private readonly evidence: Evidence,
    /** Called when a window or a sink begins to wait for something. */
    private readonly held: () => void,
    /** Gives the messages of this window, and of those behind it, to the strategy once more. */
    private readonly giveBack: (open: InFlightWindow, most: number) => Promise<void>,
  ) {
    this.pauses = new Pauses(term.parts.clock, term.parts.activity, held);
    this.delivery = new Delivery(term, this.pauses);
    this.trials = new Trials(term, this.delivery, evidence);
    this.parts = new PartsRunner(term, this.trials, evidence);
  }

  /** Windows that wait because of the rate limit. */
  get throttled(): number {
    return this.term.limiter?.waiting ?? 0;
  }

  /**
   * Milliseconds until one of the windows can finish, as far as is known: they wait for their backoffs or the rate limit. 0 if one
   * does not wait.
   *
   * @param running windows that run
   */
  hold(running: number): number {
    const { limiter } = this.term;
    return Math.min(this.pauses.hold(running - this.throttled), limiter?.hold ?? Infinity);
  }

  get blocked(): boolean {
    return this.delivery.blocked || this.blockedExecutor !== undefined;
  }

  /** The executor, if it can't run windows now. */
  get blockedExecutor(): BlockedExecutor | undefined {
    return this.trials.blockedExecutor;
  }

  /** Sinks that do not take a result. */
  get blockedSinks(): readonly BlockedSink[] {
    return this.delivery.blockedBy;
  }

  async run(open: InFlightWindow, isProbe = false): Promise<RunResult> {
    let probe: Probe = isProbe ? 'whole' : undefined;
    try {
      for (;;) {
        if (open.givenUp) return await this.giveUp(open);
        if (open.ofRows?.isSilent) return { kind: 'finished' };
        if (!this.mayTry(open) && !(await this.waitForTry(open, probe))) {
          if (open.givenUp && !this.term.isClosing) continue;
          await this.parts.leave(open);
          return LEFT_OPEN;
        }
        const { apart } = open;
        const step: Step = apart ? await this.takeApart(open, apart, probe) : await this.attempt(open, probe);
        if (typeof step === 'object') return step;
        probe = step;
      }
    } catch (error) {
      // The term ended while the store was being asked: another process finishes the window.
      if (this.term.isOver) return LEFT_OPEN;
      throw error;
    } finally {
      this.evidence.unblock(open);
      withdraw(this.term, open);
    }
  }

  /** All of it becomes dead letters, for an operator wants it out of the way. */
  async giveUp(open: InFlightWindow): Promise<RunResult> {
    await this.parts.giveUpRest(open);
    return this.finished(open);
  }

  private finished(open: InFlightWindow): RunResult {
    return { kind: 'finished', window: windowOf(this.term, open, undefined, this.term.signal()) };
  }

  /** True if nothing has to be waited for, as for most windows: promises are a good part of what a window of one costs. */
  private mayTry({ record, isIntake }: InFlightWindow): boolean {
    const { parts, lease, isClosing, limiter } = this.term;
    return !record.nextTry && (!limiter || isIntake) && !isClosing && parts.keeper.isFresh(lease);
  }

  /**
   * The backoff is stored as a time, so a restart neither skips nor restarts it; then the rate limit has its say. Resolves with
   * false if closing, or if the window was given up meanwhile.
   */
  private async waitForTry(open: InFlightWindow, probe: Probe): Promise<boolean> {
    const { definition, closing, workers } = this.term;
    const { clock } = this.term.parts;
    // What the limit protects is called by the method.
    const limiter = open.isIntake ? undefined : this.term.limiter;
    const { nextTry } = open.record;
    if (nextTry) {
      this.retrying += 1;
      const signal = stopSignal(open, closing);
      // The time may have been stored by a clock that was wrong, and ours may jump: no wait is longer than a backoff can be.
      const longest = clock.monotonic() + definition.retry.max;
      const rest = () => Math.min(nextTry.getTime() - clock.now(), longest - clock.monotonic());
      // Others are handled meanwhile, but for those of its key.
      if (open.ofRows) workers.release();
      while (rest() > 0 && !signal.aborted) {
        await this.pauses.pause(Math.min(rest(), LONGEST_PAUSE), signal);
      }
      if (open.ofRows) await this.term.parts.activity.aside(workers.wait(signal));
      this.retrying -= 1;
      if (open.givenUp) return false;
    }
    const part = probe === 'one' ? ONE : probe ? open.apart?.bisection.tried() : open.apart?.bisection.next();
    // The end of a window that was taken apart runs no handler.
    const messages = !open.apart ? open.messages.length : part && part.to - part.from;
    if (limiter) this.held();
    if (messages !== undefined && !(await admit(this.term, open, messages))) return false;
    if (open.givenUp) return false;
    return !this.term.isClosing && (await this.term.isSure()) && !this.term.isClosing;
  }

  // ---- the whole window

  private async attempt(open: InFlightWindow, probe: Probe): Promise<Step> {
    const at = notedAt(this.term, open);
    const trial = await this.trials.run(open, undefined, at && { at, store: () => this.note(open) });
    switch (trial.kind) {
      case 'void':
        return LEFT_OPEN;
      case 'again':
        return open.readable.length > 0 ? probe : { kind: 'finished' };
      case 'given up':
        return this.giveUp(open);
      case 'refused':
        return this.refused(open, trial.error);
      case 'too large':
        return this.tooLarge(open, trial.error);
      case 'passed': {
        const rejected = indicesOf(open.record, trial.window.rejected);
        if (rejected.length === 0) return { kind: 'finished', window: trial.window };
        if (isForStage(this.term, open)) {
          await this.parts.giveUpRejected(open, trial.window.rejected);
          return { kind: 'finished', window: trial.window };
        }
        open.apart = takenApart(Bisection.isolate(rejected));
        await reschedule(this.term, open, { split: open.apart.bisection.state });
        return undefined;
      }
      case 'failed':
        if (probe) return this.probeFailed(open, trial.error);
        if (trial.isLost) await this.workerLost(open, trial.error, at === 'beginning');
        else await this.attemptFailed(open, trial.error);
        return undefined;
    }
  }

  /** Nothing of the window counts. Its messages are handled in smaller windows; one that is alone can't be handled. */
  private async tooLarge(open: InFlightWindow, error: EffectsTooLarge): Promise<Step> {
    const { length } = open.messages;
    if (length === 1) {
      await this.parts.giveUpRejected(open, new Map(open.record.messageIds.map((id) => [id, error])));
      return this.finished(open);
    }
    // Otherwise the same window would be made again.
    if (length === 0 || !this.term.definition.stage?.givenBack) {
      await this.attemptFailed(open, error);
      return undefined;
    }
    const most = Math.max(1, Math.min(length >> 1, Math.floor((length * error.allowed) / (error.bytes * MARGIN))));
    const { label } = this.term.definition;
    this.term.parts.log.log(`${label}: ${error.message}; it goes on with ${counted(most, 'message')} at a time`);
    await this.giveBack(open, most);
    return GIVEN_BACK;
  }

  /** This process may end with the run. */
  private async note(open: InFlightWindow): Promise<void> {
    const { parts, lease } = this.term;
    open.record = { ...open.record, recoveries: open.record.recoveries + 1 };
    await this.term.persist('note a run that may end the process', () => parts.store.reschedule(lease, open.record));
  }

  /** The window may be what ended the worker: it runs again, and is taken apart if that happens too often. */
  private async workerLost(open: InFlightWindow, error: unknown, isNoted: boolean): Promise<void> {
    const { definition, parts } = this.term;
    const { record } = open;
    const recoveries = isNoted ? record.recoveries : record.recoveries + 1;
    const text = messageOf(error);
    const what = `${definition.label}: a worker was lost with window ${record.id} (${open.messages.length} messages): ${text}`;
    if (recoveries >= DEATHS) {
      parts.log.warn(`${what}; ${recoveries} workers were lost with it, looking for the message that ends them`);
      open.apart = takenApart(Bisection.begin(record.messageIds.length), text);
      await reschedule(this.term, open, { error: text, split: open.apart.bisection.state });
      return;
    }
    const wait = backoff(definition.retry, recoveries);
    parts.log.warn(`${what}; it runs again in ${Math.round(wait)} ms`);
    await reschedule(this.term, open, { recoveries, nextTry: new Date(parts.clock.now() + wait), error: text });
  }

  private async attemptFailed(open: InFlightWindow, error: unknown): Promise<void> {
    const { definition, parts } = this.term;
    const { retry } = definition;
    const { record } = open;
    const what =
      `${definition.label}: attempt ${record.attempt} of window ${record.id} (${counted(open.messages.length, 'message')}) failed: ` +
      withCode(error);
    // A stage handles its messages one by one, and what it made of some of them would be lost if the others came to nothing.
    if (!isForStage(this.term, open) && record.attempt % retry.attempts === 0) {
      parts.log.warn(`${what}; its attempts are used up, looking for the bad messages`);
      open.apart = takenApart(Bisection.begin(record.messageIds.length), messageOf(error));
      await reschedule(this.term, open, { error: messageOf(error), split: open.apart.bisection.state });
      return;
    }
    // What is tried without end is tried less and less often.
    const wait = backoff(retry, isForStage(this.term, open) ? record.attempt : record.attempt % retry.attempts);
    parts.log.warn(`${what}; next one in ${Math.round(wait)} ms`);
    await reschedule(this.term, open, {
      attempt: record.attempt + 1,
      nextTry: new Date(parts.clock.now() + wait),
      error: messageOf(error),
    });
  }

  /** Smaller results may fit where one of the whole window does not, and one bad message is not to take the others along. */
  private async refused(open: InFlightWindow, error: unknown): Promise<Step> {
    const { length } = open.record.messageIds;
    const text = messageOf(error);
    const isAlone = length <= 1;
    this.term.parts.log.error(
      `${this.term.definition.label}: the result of window ${open.record.id} (${counted(length, 'message')}) was refused: ${text}; ` +
        (isAlone ? 'it is given up' : 'trying parts of it (onRefused)'),
    );
    if (isAlone) {
      await this.parts.giveUpRest(open, error);
      return this.finished(open);
    }
    open.apart = takenApart(Bisection.begin(length), text);
    await reschedule(this.term, open, { error: text, split: open.apart.bisection.state });
    return undefined;
  }

  /** The whole window says little if it is large: one bad message is enough. So one message of it is tried alone, too. */
  private async probeFailed(open: InFlightWindow, error: unknown): Promise<Step> {
    const text = messageOf(error);
    await reschedule(this.term, open, { error: text });
    const { length } = open.record.messageIds;
    if (length <= 1) return SET_ASIDE;
    const all = [{ from: 0, to: length }];
    open.apart = takenApart(new Bisection({ pending: [], alone: [], again: all, last: false }), text);
    open.apart.isProbed = true;
    return 'one';
  }

  // ---- the window in parts

  private async takeApart(open: InFlightWindow, apart: TakenApart, probe: Probe): Promise<Step> {
    // Only a window that is to be blocked waits while it is taken apart, and only once.
    if (open.record.nextTry) open.record = withoutNextTry(open.record);
    switch (await this.parts.step(open, apart, probe)) {
      case 'probe one':
        return 'one';
      case 'again':
        return probe;
      case 'more':
        return undefined;
      case 'finished':
        return this.finished(open);
      case 'set aside':
        return SET_ASIDE;
      case 'given up':
        return this.giveUp(open);
      case 'void':
        return LEFT_OPEN;
    }
  }
}

function withoutNextTry({ nextTry: _, ...record }: InFlightWindow['record']): InFlightWindow['record'] {
  return record;
}

/** Our own errors end with their code. */
function withCode(error: unknown): string {
  const message = messageOf(error);
  const hasCode = isA(error, MinibatchError) || / \[MINIBATCH_\w+\]$/.test(message);
  return hasCode ? message : `${message} [${ErrorCode.HandlerFailed}]`;
}
