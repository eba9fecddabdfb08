import { isA, stackOf } from '../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf, RejectMessages } from '../errors/minibatch.error.js';
import { backoff } from '../internal/backoff.js';
import { delay } from '../internal/clock.js';
import type { SplitState, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import { windowId } from '../windows/window-id.js';
import { BatchWindow } from './batch-window.js';
import { begin, failed, isolate, passed, passedBut } from './bisection.js';
import type { NamedSink } from './emitter.interface.js';
import type { OpenWindow } from './open-window.js';
import { RateLimiter } from './rate-limit.js';
import { notify, type Tenure } from './tenure.js';
import { setAside } from './undecodable.js';

/** What became of a window: finished and ready for its commit, or left open for the next holder of the lease. */
export type RunResult = { readonly finished: true; readonly window?: BatchWindow } | { readonly finished: false };

const LEFT_OPEN: RunResult = { finished: false };
/** The clock may jump: it is looked at again after so long; milliseconds. */
const LONGEST_LOOK = 60_000;

/** How many messages of a window keep a stack. */
const MOST_STACKS = 100;

/** What became of one run of the handler and the sinks. */
type Trial =
  | { readonly kind: 'passed'; readonly window: BatchWindow }
  | { readonly kind: 'failed'; readonly window: BatchWindow; readonly error: unknown }
  /** The handler was not called: messages that can't be decoded had to be left out first. */
  | { readonly kind: 'again' }
  /** It does not count: the consumer is stopping, or the lease is lost. */
  | { readonly kind: 'void' };

/** Undefined: there is more to do. */
type Step = RunResult | undefined;

/** Part of a window: indices in its record's `messageIds`. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/**
 * Takes a claimed window through its handler and its sinks.
 *
 * ```text
 * (wait until nextTry) ─▶ handler ──resolved──▶ sinks ──all resolved──▶ finished
 *        ▲                   │ threw               │ rejected: this sink again, with backoff, without end
 *        └── attempt + 1, ◀──┤                     └──▶ (the messages are not to blame)
 *            nextTry stored  │ attempts used up
 *                            ▼
 *                     taken apart: part ─▶ handler ─▶ sinks, see bisection.ts; the state is stored after each part
 *                            │
 *                            ├─ some messages failed alone ─▶ dead letters ─▶ finished
 *                            └─ all of them ─▶ blocked: from the start, after the longest backoff
 * ```
 *
 * Nothing irrevocable begins on a doubtful lease: it is renewed first.
 */
export class WindowRunner {
  /** Windows that wait for their next attempt. */
  retrying = 0;
  /** Sinks that did not take their result. */
  private blockedSinks = 0;
  /** Windows of which every message failed. */
  private readonly hopeless = new Set<OpenWindow>();
  private readonly limiter: RateLimiter | undefined;

  constructor(private readonly tenure: Tenure) {
    const { definition, parts } = tenure;
    if (definition.rateLimit) this.limiter = new RateLimiter(definition.rateLimit, parts.clock, parts.activity);
  }

  /** Windows that wait because of the rate limit. */
  get throttled(): number {
    return this.limiter?.waiting ?? 0;
  }

  get blocked(): boolean {
    return this.blockedSinks > 0 || this.hopeless.size > 0;
  }

  async run(open: OpenWindow): Promise<RunResult> {
    try {
      for (;;) {
        if (!this.mayTry(open) && !(await this.waitForTry(open))) return LEFT_OPEN;
        const step = open.record.split ? await this.takeApart(open) : await this.attempt(open);
        if (step) return step;
      }
    } catch (error) {
      // The tenure ended while the store was being asked: the window goes on elsewhere.
      if (this.tenure.isOver) return LEFT_OPEN;
      throw error;
    } finally {
      this.hopeless.delete(open);
    }
  }

  /** True if nothing has to be waited for, as for most windows: promises are a good part of what a window of one costs. */
  private mayTry({ record }: OpenWindow): boolean {
    const { parts, lease, isClosing } = this.tenure;
    return !record.nextTry && !this.limiter && !isClosing && parts.keeper.isFresh(lease);
  }

  /**
   * The backoff is stored as a time, so a restart neither skips nor restarts it; then the rate limit has its say. Resolves with
   * false if closing.
   */
  private async waitForTry(open: OpenWindow): Promise<boolean> {
    const { definition, parts, closing } = this.tenure;
    const { clock } = parts;
    const { nextTry } = open.record;
    if (nextTry) {
      this.retrying += 1;
      // The time may have been stored by a clock that was wrong, and ours may jump: no wait is longer than a backoff can be.
      const longest = clock.monotonic() + definition.retry.max;
      const rest = () => Math.min(nextTry.getTime() - clock.now(), longest - clock.monotonic());
      while (rest() > 0 && !closing.signal.aborted) {
        await parts.activity.aside(delay(clock, Math.min(rest(), LONGEST_LOOK), closing.signal));
      }
      this.retrying -= 1;
    }
    const part = open.record.split?.pending[0];
    const messages = part ? part.to - part.from : open.messages.length;
    // The end of a window that was taken apart runs no handler.
    const runs = part !== undefined || !open.record.split;
    if (this.limiter && runs && !(await this.limiter.admit(messages, closing.signal))) return false;
    return !this.tenure.isClosing && (await this.isSure()) && !this.tenure.isClosing;
  }

  /** Makes sure of a lease that may be another's by now. Resolves with false if the tenure is over. */
  private async isSure(): Promise<boolean> {
    const { parts, lease } = this.tenure;
    try {
      if (!parts.keeper.isFresh(lease)) {
        await this.tenure.persist('renew the lease', () => parts.keeper.ensure(lease));
      }
    } catch (error) {
      if (!this.tenure.isOver) throw error;
    }
    return !this.tenure.isOver;
  }

  // ---- the whole window

  private async attempt(open: OpenWindow): Promise<Step> {
    const trial = await this.try(open, undefined);
    if (trial.kind === 'void') return LEFT_OPEN;
    if (trial.kind === 'again') return open.readable.length > 0 ? undefined : { finished: true };
    if (trial.kind === 'passed') {
      const rejected = indicesOf(open.record, trial.window.rejected);
      if (rejected.length === 0) return { finished: true, window: trial.window };
      await this.store(open, { split: isolate(rejected, 1) });
      return undefined;
    }
    await this.attemptFailed(open, trial.error);
    return undefined;
  }

  private async attemptFailed(open: OpenWindow, error: unknown): Promise<void> {
    const { definition, parts } = this.tenure;
    const { retry } = definition;
    const { record } = open;
    const what =
      `${definition.label}: attempt ${record.attempt} of window ${record.id} (${open.messages.length} messages) failed: ` +
      withCode(error);
    if (record.attempt % retry.attempts === 0) {
      parts.log.warn(`${what}; its attempts are used up, looking for the bad messages`);
      await this.store(open, { error: messageOf(error), split: begin(record.messageIds.length) });
      return;
    }
    const wait = backoff(retry, record.attempt % retry.attempts);
    parts.log.warn(`${what}; next one in ${Math.round(wait)} ms`);
    await this.store(open, {
      attempt: record.attempt + 1,
      nextTry: new Date(parts.clock.now() + wait),
      error: messageOf(error),
    });
  }

  // ---- the window in parts

  private async takeApart(open: OpenWindow): Promise<Step> {
    const { split } = open.record;
    if (!split) return undefined;
    const [part] = split.pending;
    if (!part) return this.conclude(open);
    if (messagesOf(open, part).length === 0) {
      await this.store(open, { error: open.record.error, split: passed(split) });
      return undefined;
    }
    const trial = await this.try(open, part);
    if (trial.kind === 'void') return LEFT_OPEN;
    if (trial.kind === 'again') return undefined;
    const next =
      trial.kind === 'failed'
        ? failed(split, messageOf(trial.error), stackFor(trial.error, split))
        : afterPass(split, open.record, trial.window);
    await this.store(open, { error: open.record.error, split: next });
    return undefined;
  }

  /** Every part was tried. */
  private async conclude(open: OpenWindow): Promise<Step> {
    const { definition, counters, parts, lease } = this.tenure;
    const { record } = open;
    const byId = new Map(open.messages.map((message) => [message.id, message]));
    const bad = (record.split?.failed ?? []).flatMap((failure) => {
      const message = byId.get(record.messageIds[failure.index] ?? '');
      return message ? [{ failure, message }] : [];
    });
    const hopeless =
      definition.onAllFailed === 'block' &&
      bad.length > 0 &&
      bad.length === open.readable.length &&
      !bad.some(({ failure }) => failure.rejected);
    if (hopeless) return this.block(open);
    if (bad.length > 0) {
      const died = new Date(parts.clock.now());
      const letters = bad.map(({ failure: { error, stack }, message }) => ({
        message,
        window: record.id,
        consumer: definition.label,
        attempts: record.attempt,
        error,
        ...(stack === undefined ? {} : { stack }),
        died,
      }));
      await this.tenure.persist('store dead letters', () => parts.store.bury(lease, letters));
      counters.deadLettered += letters.length;
      parts.log.error(
        `${definition.label}: gave up ${letters.length} of ${open.messages.length} messages of window ${record.id}; ` +
          `they are dead letters of '${definition.key.stream}': ${letters[0]?.error}`,
      );
    }
    return { finished: true, window: windowOf(this.tenure, open, undefined, this.tenure.over) };
  }

  /** The fault is not in the messages: none is given up. */
  private async block(open: OpenWindow): Promise<Step> {
    const { definition, counters, parts } = this.tenure;
    const { record } = open;
    const error = new MinibatchError(
      ErrorCode.AllFailed,
      `${definition.label}: each of the ${open.messages.length} messages of window ${record.id} failed alone, the last with: ` +
        `${record.split?.failed.at(-1)?.error}. Nothing is given up; it is tried again until it works. Mend what they all ` +
        "need, or set onAllFailed: 'deadLetter'",
    );
    this.hopeless.add(open);
    counters.failed(parts.clock.now(), error);
    parts.log.error(error.message);
    await this.store(open, {
      attempt: record.attempt + 1,
      nextTry: new Date(parts.clock.now() + definition.retry.max),
      error: error.message,
    });
    return undefined;
  }

  /** The state that a restart goes on from; what is not given is as in a fresh window. */
  private async store(
    open: OpenWindow,
    change: Partial<Pick<WindowRecord, 'attempt' | 'nextTry' | 'error' | 'split'>>,
  ): Promise<void> {
    const { parts, lease } = this.tenure;
    const { nextTry: _nextTry, error: _error, split: _split, ...rest } = open.record;
    // The process has come to the end of the handler: what ended others before does not count any more.
    open.record = { ...rest, ...defined(change), recoveries: 0 };
    await this.tenure.persist('store a failed attempt', () => parts.store.reschedule(lease, open.record));
  }

  // ---- one run

  /** Runs the handler and the sinks with the whole window, or with a part of it. */
  private async try(open: OpenWindow, part: Range | undefined): Promise<Trial> {
    const { definition, counters, parts } = this.tenure;
    const signal = this.tenure.signal();
    try {
      const window = windowOf(this.tenure, open, part, signal);
      const undecodable = window.decode();
      if (undecodable.length > 0) {
        await setAside(this.tenure, open, undecodable);
        return { kind: 'again' };
      }
      if (open.suspect) await this.countBeginning(open);
      const outcome = await this.handle(window, (reason) => signal.abort(reason));
      if (outcome.failed) {
        notify(this.tenure, 'onUndo', () => definition.emitter.onUndo(window.shown, outcome.error));
        if (this.tenure.isClosing) return { kind: 'void' };
        counters.failures += 1;
        counters.failed(parts.clock.now(), outcome.error, ErrorCode.HandlerFailed);
        return { kind: 'failed', window, error: outcome.error };
      }
      this.hopeless.delete(open);
      const delivered = outcome.result === undefined || (await this.deliver(outcome.result, window));
      if (delivered && !this.tenure.isOver) return { kind: 'passed', window };
      notify(this.tenure, 'onUndo', () => definition.emitter.onUndo(window.shown, window.signal.reason));
      return { kind: 'void' };
    } finally {
      signal.dispose();
    }
  }

  /** Noted before the handler begins, so that only a process that dies with it counts against the window. */
  private async countBeginning(open: OpenWindow): Promise<void> {
    const { parts, lease } = this.tenure;
    open.record = { ...open.record, recoveries: open.record.recoveries + 1 };
    await this.tenure.persist('note the beginning of a handler', () => parts.store.reschedule(lease, open.record));
  }

  private async handle(
    window: BatchWindow,
    abort: (reason: unknown) => void,
  ): Promise<{ failed: false; result: unknown } | { failed: true; error: unknown }> {
    const { definition } = this.tenure;
    notify(this.tenure, 'onProcess', () => definition.emitter.onProcess(window.shown));
    try {
      const running = definition.executor.run(definition.handler, window);
      const result = definition.retry.timeout
        ? await this.limit(running, definition.retry.timeout, abort)
        : await running;
      notify(this.tenure, 'onEmit', () => definition.emitter.onEmit(window.shown, result));
      return { failed: false, result };
    } catch (error) {
      if (!isA(error, RejectMessages)) return { failed: true, error };
      try {
        for (const { message, reason } of error.rejected) window.reject(message, reason);
        return { failed: false, result: undefined };
      } catch (wrong) {
        return { failed: true, error: wrong };
      }
    }
  }

  /** The run that took too long goes on, but what it says counts no more. */
  private async limit(running: Promise<unknown>, timeout: number, abort: (reason: unknown) => void): Promise<unknown> {
    const { clock, activity } = this.tenure.parts;
    running.catch(() => undefined);
    let cancel = (): void => undefined;
    const limit = new Promise<never>((_, reject) => {
      cancel = clock.schedule(timeout, () => {
        const error = new MinibatchError(
          ErrorCode.HandlerTimeout,
          `${this.tenure.definition.label} did not settle within ${timeout} ms (retry.timeout)`,
        );
        abort(error);
        reject(error);
      });
    });
    try {
      // It waits for the clock too: a test with a virtual one must be able to move it on.
      return await activity.aside(Promise.race([running, limit]));
    } finally {
      cancel();
    }
  }

  /** Resolves with true when every sink has the result. */
  private async deliver(result: unknown, window: BatchWindow): Promise<boolean> {
    const { definition, parts } = this.tenure;
    if (definition.sinks.length === 0) return true;
    const puts = definition.sinks.map((sink) => parts.activity.track(() => this.put(sink, result, window.view())));
    const done = await parts.activity.aside(Promise.all(puts));
    return done.every(Boolean);
  }

  private async put({ name, sink }: NamedSink, result: unknown, window: BatchWindow): Promise<boolean> {
    const { definition, counters, parts, over } = this.tenure;
    for (let failures = 0; ;) {
      if (!(await this.isSure())) {
        if (failures > 0) this.blockedSinks -= 1;
        return false;
      }
      try {
        await sink.put(result, window);
        if (failures > 0) this.blockedSinks -= 1;
        return true;
      } catch (error) {
        failures += 1;
        counters.sinkFailures += 1;
        counters.failed(parts.clock.now(), error, ErrorCode.SinkFailed);
        const wait = backoff(definition.retry, failures);
        if (failures === 1) {
          this.blockedSinks += 1;
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

function windowOf(
  { definition }: Tenure,
  open: OpenWindow,
  part: Range | undefined,
  signal: { readonly signal: AbortSignal },
): BatchWindow {
  const { key } = definition;
  const { record } = open;
  const messages = messagesOf(open, part);
  if (!part) return new BatchWindow(key, record, messages, signal);
  const id = windowId(
    key.stream,
    key.group,
    key.partition,
    messages.map((message) => message.id),
    {},
  );
  return new BatchWindow(key, record, messages, signal, { id, from: part.from, to: part.to });
}

/** Some may have vanished from the buffer, or can't be decoded: the indices are those of the record. */
function messagesOf({ record, readable }: OpenWindow, part: Range | undefined): readonly StoredMessage[] {
  if (!part) return readable;
  const ids = new Set(record.messageIds.slice(part.from, part.to));
  return readable.filter(({ id }) => ids.has(id));
}

function indicesOf(record: WindowRecord, rejected: ReadonlyMap<string, unknown>): readonly number[] {
  if (rejected.size === 0) return [];
  return record.messageIds.flatMap((id, index) => (rejected.has(id) ? [index] : []));
}

/** A part went through; a message that the handler rejects while it is alone has failed. */
function afterPass(split: SplitState, record: WindowRecord, window: BatchWindow) {
  const rejected = indicesOf(record, window.rejected);
  if (rejected.length === 0) return passed(split);
  const [part] = split.pending;
  if (part && part.to - part.from > 1) return passedBut(split, rejected);
  const [reason] = window.rejected.values();
  return failed(split, messageOf(reason), stackFor(reason, split), true);
}

/** The state of a window has to fit into one record of the store, though thousands of messages fail. */
function stackFor(error: unknown, { failed: before }: SplitState): string | undefined {
  return before.length >= MOST_STACKS ? undefined : stackOf(error);
}

/** Our own errors end with their code. */
function withCode(error: unknown): string {
  const message = messageOf(error);
  return isA(error, MinibatchError) ? message : `${message} [${ErrorCode.HandlerFailed}]`;
}

/** Without what is undefined: an absent field and an undefined one are not the same to a database. */
function defined<O extends object>(object: O): O {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as O;
}
