import { ErrorCode, messageOf } from '../errors/minibatch.error.js';
import { backoff } from '../internal/backoff.js';
import { delay } from '../internal/clock.js';
import { BatchWindow } from './batch-window.js';
import type { NamedSink } from './emitter.interface.js';
import { isLeaseLost } from './lease-keeper.js';
import type { OpenWindow } from './open-window.js';
import { notify, type Tenure } from './tenure.js';

/** What became of a window: finished and ready for its commit, or left open for the next holder of the lease. */
export type RunResult = { readonly finished: true; readonly window: BatchWindow } | { readonly finished: false };

const LEFT_OPEN: RunResult = { finished: false };

/**
 * Takes a claimed window through its handler and its sinks.
 *
 * ```text
 * (wait until nextTry) ─▶ handler ──resolved──▶ sinks ──all resolved──▶ finished
 *        ▲                   │ threw               │ rejected: this sink again, with backoff, without end
 *        └── attempt + 1, ◀──┘                     └──▶ (the messages are not to blame)
 *            nextTry stored
 * ```
 *
 * Nothing irrevocable begins on a doubtful lease: it is renewed first.
 */
export class WindowRunner {
  /** Windows that wait for their next attempt. */
  retrying = 0;
  /** Sinks that did not take their result. */
  blocked = 0;

  constructor(private readonly tenure: Tenure) {}

  async run(open: OpenWindow): Promise<RunResult> {
    try {
      for (;;) {
        if (!(await this.waitForTry(open))) return LEFT_OPEN;
        const window = new BatchWindow(this.tenure.definition.key, open.record, open.messages, this.tenure.over.signal);
        const outcome = await this.handle(window);
        if (outcome.failed) {
          if (!(await this.reschedule(open, window, outcome.error))) return LEFT_OPEN;
          continue;
        }
        const delivered = outcome.result === undefined || (await this.deliver(outcome.result, window));
        if (delivered && !this.tenure.isOver) return { finished: true, window };
        notify(this.tenure, 'onUndo', () => this.tenure.definition.emitter.onUndo(window, window.signal.reason));
        return LEFT_OPEN;
      }
    } catch (error) {
      // The tenure ended while the store was being asked: the window goes on elsewhere.
      if (this.tenure.isOver || isLeaseLost(error)) return LEFT_OPEN;
      throw error;
    }
  }

  /** The backoff is stored as a time, so a restart neither skips nor restarts it. Resolves with false if closing. */
  private async waitForTry(open: OpenWindow): Promise<boolean> {
    const { parts, closing } = this.tenure;
    const { nextTry } = open.record;
    if (nextTry) {
      this.retrying += 1;
      // The clock may jump: look again instead of trusting one long wait.
      for (let rest = nextTry.getTime() - parts.clock.now(); rest > 0 && !closing.signal.aborted;) {
        await parts.activity.aside(delay(parts.clock, Math.min(rest, 60_000), closing.signal));
        rest = nextTry.getTime() - parts.clock.now();
      }
      this.retrying -= 1;
    }
    if (this.tenure.isClosing) return false;
    if (!parts.keeper.isFresh(this.tenure.lease)) await this.makeSure();
    return !this.tenure.isClosing;
  }

  private async makeSure(): Promise<void> {
    const { parts, lease } = this.tenure;
    await this.tenure.persist('renew the lease', () => parts.keeper.ensure(lease));
  }

  private async handle(
    window: BatchWindow,
  ): Promise<{ failed: false; result: unknown } | { failed: true; error: unknown }> {
    const { definition } = this.tenure;
    notify(this.tenure, 'onProcess', () => definition.emitter.onProcess(window));
    try {
      const result = await definition.executor.run(definition.handler, window);
      notify(this.tenure, 'onEmit', () => definition.emitter.onEmit(window, result));
      return { failed: false, result };
    } catch (error) {
      return { failed: true, error };
    }
  }

  /** Stores the failed attempt. Resolves with false if it does not count, because the consumer is being stopped. */
  private async reschedule(open: OpenWindow, window: BatchWindow, error: unknown): Promise<boolean> {
    const { definition, counters, parts, lease } = this.tenure;
    notify(this.tenure, 'onUndo', () => definition.emitter.onUndo(window, error));
    if (this.tenure.isClosing) return false;
    counters.failures += 1;
    counters.failed(parts.clock.now(), error, ErrorCode.HandlerFailed);
    const wait = backoff(definition.retry, open.record.attempt);
    open.record = {
      ...open.record,
      attempt: open.record.attempt + 1,
      nextTry: new Date(parts.clock.now() + wait),
      error: messageOf(error),
    };
    parts.log.warn(
      `${definition.label}: attempt ${window.attempt} of window ${window.id} (${open.messages.length} messages) failed, ` +
        `next one in ${Math.round(wait)} ms: ${messageOf(error)} [${ErrorCode.HandlerFailed}]`,
    );
    await this.tenure.persist('store a failed attempt', () => parts.store.reschedule(lease, open.record));
    return true;
  }

  /** Resolves with true when every sink has the result. */
  private async deliver(result: unknown, window: BatchWindow): Promise<boolean> {
    const { definition, parts } = this.tenure;
    if (definition.sinks.length === 0) return true;
    const puts = definition.sinks.map((sink) => parts.activity.track(() => this.put(sink, result, window)));
    const done = await parts.activity.aside(Promise.all(puts));
    return done.every(Boolean);
  }

  private async put({ name, sink }: NamedSink, result: unknown, window: BatchWindow): Promise<boolean> {
    const { definition, counters, parts, over } = this.tenure;
    for (let failures = 0; ;) {
      if (!parts.keeper.isFresh(this.tenure.lease)) await this.makeSure();
      if (this.tenure.isOver) return false;
      try {
        await sink.put(result, window);
        if (failures > 0) this.blocked -= 1;
        return true;
      } catch (error) {
        failures += 1;
        counters.sinkFailures += 1;
        counters.failed(parts.clock.now(), error, ErrorCode.SinkFailed);
        const wait = backoff(definition.retry, failures);
        if (failures === 1) {
          this.blocked += 1;
          parts.log.warn(
            `${definition.label}: sink ${name} did not take the result of window ${window.id}, ` +
              `trying again until it does: ${messageOf(error)} [${ErrorCode.SinkFailed}]`,
          );
        }
        await parts.activity.aside(delay(parts.clock, wait, over.signal));
      }
    }
  }
}
