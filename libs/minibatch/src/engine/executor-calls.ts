import { asOwnCall } from '../common/own-calls.js';
import { backoff } from '../common/backoff.js';
import { delay } from '../common/clock.js';
import type { Mutable } from '../common/mutable.js';
import { isA } from '../errors/error-text.js';
import {
  isExecutorFault,
  RemoteHandlerError,
  ResultLost,
  ResultUnsendable,
  thrownOf,
  WorkerLost,
} from '../errors/executor-errors.js';
import { ErrorCode, messageOf, MinibatchError } from '../errors/minibatch.error.js';
import type { BoundExecutor, WindowOutcome } from '../executors/executor.interface.js';
import type { BatchWindow } from './batch-window.js';
import { hasHook } from './emitter-hooks.js';
import type { BlockedExecutor } from './engine.interface.js';
import { accepted, WrongAnswer } from './executor-answer.js';
import { ExecutorTask } from './executor-task.js';
import { failedWith, type Handled } from './handled.js';
import { type InFlightWindow, stopSignal } from './in-flight-window.js';
import type { AttemptSignal, LeaseTerm } from './lease-term.js';
import { handlerTimeout, limited } from './time-limit.js';
import { deadLetterUndecodable } from './undecodable.js';

/** A window, or a part of one, on its way through an executor. */
interface Run {
  readonly open: InFlightWindow;
  readonly task: ExecutorTask;
  readonly window: BatchWindow;
  readonly signal: AttemptSignal;
}

/**
 * Hands windows to an executor until it says what the handler made of them. What is not the handler's fault is not counted: the window waits
 * for the executor, as a result waits for a sink. See `Executor` for what counts as what.
 */
export class ExecutorCalls {
  private readonly waiting = new Set<Mutable<BlockedExecutor>>();
  private isReported = false;

  constructor(
    private readonly term: LeaseTerm,
    private readonly bound: BoundExecutor,
  ) {}

  /** The window that has waited longest for the executor; undefined if none does. */
  get blocked(): BlockedExecutor | undefined {
    const [first] = this.waiting;
    return first && { ...first, windows: this.waiting.size };
  }

  async run(open: InFlightWindow, window: BatchWindow, signal: AttemptSignal): Promise<Handled> {
    const { definition } = this.term;
    const wantsResult = definition.sinks.length > 0 || hasHook(this.term, 'onEmit');
    const { recoveries } = open.record;
    const { partition } = definition.key;
    const task = new ExecutorTask(this.bound, definition.handler, window, recoveries, wantsResult, partition);
    const run: Run = { open, task, window, signal };
    let blocked: Mutable<BlockedExecutor> | undefined;
    try {
      for (let failures = 1; ; failures += 1) {
        if (!(await this.mayTry(open)))
          return open.givenUp && !this.term.isOver ? { kind: 'given up' } : { kind: 'void' };
        let error: unknown;
        try {
          return { kind: 'handled', result: accepted(await this.tryOnce(run), window) };
        } catch (thrown) {
          error = thrown;
        }
        const handled = await this.judge(run, error);
        if (handled) return handled;
        blocked = this.failed(run, error, blocked);
        const { parts, closing } = this.term;
        const wait = backoff(definition.retry, failures);
        await parts.activity.aside(delay(parts.clock, wait, stopSignal(open, closing)));
      }
    } finally {
      if (blocked) this.ended(blocked);
    }
  }

  private async mayTry(open: InFlightWindow): Promise<boolean> {
    if (open.givenUp || this.term.isClosing) return false;
    return this.term.isSure();
  }

  /** The outcome, or what the executor rejects with; within the time limit of the handler. */
  private async tryOnce({ task, window, signal }: Run): Promise<WindowOutcome> {
    const { calls, caller, definition } = this.term;
    const { executor } = this.bound;
    const call = calls.begin(window.id);
    const running = asOwnCall(caller, async () => executor.run(task));
    const { timeout: most } = definition.retry;
    if (most !== undefined) {
      return limited(this.term, call, running, {
        most,
        error: () => handlerTimeout(definition.label, most),
        abort: (reason) => signal.abort(reason),
        ...(executor.reportsStart && { from: task.begin() }),
      });
    }
    try {
      return await running;
    } finally {
      calls.end(call);
    }
  }

  /** Undefined if the fault is the executor's, and the window is to wait for it. */
  private async judge({ open, window }: Run, error: unknown): Promise<Handled | undefined> {
    if (this.term.isOver) return { kind: 'void' };
    const undecodable = window.decode();
    if (undecodable.length > 0) {
      await deadLetterUndecodable(this.term, open, undecodable);
      return { kind: 'again' };
    }
    if (isA(error, RemoteHandlerError)) return failedWith(thrownOf(error), window);
    if (isA(error, WorkerLost)) return { kind: 'failed', error, isLost: true };
    if (isA(error, ResultUnsendable) && this.term.definition.onRefused === 'deadLetter')
      return { kind: 'refused', error };
    const isTimeout = isA(error, MinibatchError) && error.code === ErrorCode.HandlerTimeout;
    return isTimeout ? { kind: 'failed', error } : undefined;
  }

  private failed(
    { window }: Run,
    error: unknown,
    before: Mutable<BlockedExecutor> | undefined,
  ): Mutable<BlockedExecutor> | undefined {
    const { counters, parts } = this.term;
    const coded = isExecutorFault(error) ? error : this.unknownFault(error);
    counters.failed(parts.clock.now(), coded);
    // It may be handed to another worker at once.
    if (isA(error, ResultLost)) return before;
    const now = parts.clock.now();
    const blocked = before ?? {
      executor: this.bound.executor.name,
      window: window.id,
      windows: 1,
      since: new Date(now),
      attempts: 0,
      code: '',
      error: '',
    };
    blocked.attempts += 1;
    blocked.code = coded.code;
    blocked.error = coded.message;
    this.waiting.add(blocked);
    this.report(coded);
    return blocked;
  }

  private unknownFault(cause: unknown): MinibatchError {
    const { name } = this.bound.executor;
    const what = isA(cause, WrongAnswer) ? cause.message : `failed: ${messageOf(cause)}`;
    return new MinibatchError(ErrorCode.ExecutorFailed, `executor ${name} ${what}`, { cause });
  }

  /** Once, and not for every window that waits. */
  private report(error: MinibatchError): void {
    if (this.isReported) return;
    this.isReported = true;
    const { definition, parts } = this.term;
    parts.log.warn(
      `${definition.label}: its windows wait for the executor ${this.bound.executor.name}: ${error.message}`,
    );
  }

  private ended(blocked: Mutable<BlockedExecutor>): void {
    this.waiting.delete(blocked);
    if (this.waiting.size > 0 || this.term.isClosing) return;
    this.isReported = false;
    this.term.parts.log.log(
      `${this.term.definition.label}: no window waits for the executor ${this.bound.executor.name} any more`,
    );
  }
}
