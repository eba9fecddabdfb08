import { isA } from '../errors/error-text.js';
import { ErrorCode } from '../errors/minibatch.error.js';
import { asOwnCall } from '../common/own-calls.js';
import type { IndexRange, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import { windowId } from '../windows/window-id.js';
import { BatchWindow, type Undecodable, type WindowSignals } from './batch-window.js';
import type { Call } from './calls.js';
import type { Note } from './deaths.js';
import { DELIVERED, type Delivery } from './delivery.js';
import { EffectsTooLarge } from './effects-too-large.js';
import type { BlockedExecutor, Stage } from './engine.interface.js';
import type { Evidence } from './evidence.js';
import { ExecutorCalls } from './executor-calls.js';
import { failedWith, type Handled } from './handled.js';
import type { InFlightWindow } from './in-flight-window.js';
import { begins } from './rate-starts.js';
import { notify } from './emitter-hooks.js';
import { type AttemptSignal, type LeaseTerm } from './lease-term.js';
import type { StageEffects } from './state-changes.js';
import { handlerTimeout, limited } from './time-limit.js';
import { deadLetterUndecodable } from './undecodable.js';

/** What became of one run of the handler and the sinks. */
export type Trial =
  | { readonly kind: 'passed'; readonly window: BatchWindow }
  /** `isLost`: its worker died, which no handler can say of itself. */
  | { readonly kind: 'failed'; readonly error: unknown; readonly isLost: boolean }
  /** The handler is through, and a sink can never take what it made. */
  | { readonly kind: 'refused'; readonly error: unknown }
  /** The handler was not called: messages that can't be decoded had to be left out first. */
  | { readonly kind: 'again' }
  /** What a stage makes of the window is more than is committed together. */
  | { readonly kind: 'too large'; readonly error: EffectsTooLarge }
  /** An operator gave the window up while a sink did not take its result. */
  | { readonly kind: 'given up' }
  /** It does not count: the consumer is stopping, or the lease is lost. */
  | { readonly kind: 'void' };

const NONE: readonly Undecodable[] = [];

/** Runs the handler and the sinks once, with a window or a part of it. */
export class Trials {
  /** Absent: the handler runs in this process. */
  private readonly remote: ExecutorCalls | undefined;

  constructor(
    private readonly term: LeaseTerm,
    private readonly delivery: Delivery,
    private readonly evidence: Evidence,
  ) {
    const { executor } = term.definition;
    this.remote = executor && new ExecutorCalls(term, executor);
  }

  get blockedExecutor(): BlockedExecutor | undefined {
    return this.remote?.blocked;
  }

  /** @param note stores that this process may end with the run, so that only one that does counts against the window */
  async run(open: InFlightWindow, part?: IndexRange, note?: Note): Promise<Trial> {
    const signal = this.term.signal();
    try {
      const window = windowOf(this.term, open, part, signal);
      // In another process, what can't be decoded comes to light there.
      const remote = open.isIntake ? undefined : this.remote;
      const undecodable = remote ? NONE : window.decode();
      if (undecodable.length > 0) {
        await deadLetterUndecodable(this.term, open, undecodable);
        return { kind: 'again' };
      }
      if (note?.at === 'beginning') await note.store();
      // A stage shows nothing of the method.
      const run = isForStage(this.term, open) ? undefined : this.evidence.begin();
      const outcome = await (remote
        ? this.handleThere(remote, open, window, signal, note)
        : this.handle(open, window, signal));
      if (outcome.kind !== 'handled') return this.ended(outcome, window);
      // A handler that rejects all of a window has not shown that it can do anything.
      const { size } = window.rejected;
      if (run !== undefined && (size === 0 || size < messagesOf(open, part).length)) this.evidence.succeeded(open, run);
      const delivered =
        outcome.result === undefined ? DELIVERED : await this.delivery.deliver(open, outcome.result, window);
      if (delivered.kind === 'delivered' && !this.term.isOver) return { kind: 'passed', window };
      const why: unknown = delivered.kind === 'refused' ? delivered.error : window.signal.reason;
      notify(this.term, 'onUndo', window, why);
      return delivered.kind === 'delivered' || this.term.isOver ? { kind: 'void' } : delivered;
    } finally {
      signal.dispose();
    }
  }

  /** There is no result to deliver. */
  private ended(outcome: Exclude<Handled, { kind: 'handled' }>, window: BatchWindow): Trial {
    const { counters, parts, isClosing } = this.term;
    notify(this.term, 'onUndo', window, 'error' in outcome ? outcome.error : window.signal.reason);
    if (outcome.kind !== 'failed') return outcome;
    if (isClosing) return { kind: 'void' };
    const { error, isLost = false } = outcome;
    if (isA(error, EffectsTooLarge)) return { kind: 'too large', error };
    if (isLost) counters.lostWorkers += 1;
    else counters.failures += 1;
    counters.failed(parts.clock.now(), error, ErrorCode.HandlerFailed);
    return { kind: 'failed', error, isLost };
  }

  /** Calls the handler, within its time limit if it has one. Not async: a promise is a good part of what a window of one costs. */
  private callHandler(open: InFlightWindow, window: BatchWindow, call: Call, signal: AttemptSignal): Promise<unknown> {
    const { definition, caller } = this.term;
    const stage = isForStage(this.term, open) ? definition.stage : undefined;
    const run = async () => (stage ? await this.runStage(stage, open, window) : await definition.handler(window));
    const most = this.timeLimit(open);
    if (most === undefined) return asOwnCall(caller, run);
    const error = () => handlerTimeout(definition.label, most);
    const running = asOwnCall(caller, run);
    return limited(this.term, call, running, { most, error, abort: (reason) => signal.abort(reason) });
  }

  /** What goes into rows is not the method's to be slow with. */
  private timeLimit({ isIntake }: InFlightWindow): number | undefined {
    return isIntake ? undefined : this.term.definition.retry.timeout;
  }

  private async runStage(stage: Stage, open: InFlightWindow, window: BatchWindow): Promise<StageEffects> {
    const { state, parts, definition } = this.term;
    const { record, readable: messages } = open;
    const { stream } = definition.key;
    const about = { stream, messages, partitions: parts.partitions(stream) };
    const changes = state!.begin(record, about, parts.clock, parts.store.maxWindowEffectBytes);
    if (stage.open) await changes.prepare();
    await stage.run(window, changes, definition.emitter);
    return changes.effects();
  }

  /** What an attempt that came too late makes of its window comes to nothing. */
  private through(open: InFlightWindow, effects: StageEffects): undefined {
    this.term.state!.apply(effects.effects);
    effects.through();
    this.term.counters.dropped += effects.dropped;
    open.effects = effects;
  }

  private async handle(open: InFlightWindow, window: BatchWindow, signal: AttemptSignal): Promise<Handled> {
    notify(this.term, 'onProcess', window);
    const noted = begins(this.term, open);
    const { calls } = this.term;
    const call = calls.begin(window.id);
    const isStage = isForStage(this.term, open);
    try {
      const returned = await this.callHandler(open, window, call, signal);
      const result = isStage ? this.through(open, returned as StageEffects) : returned;
      notify(this.term, 'onEmit', window, result);
      return { kind: 'handled', result };
    } catch (error) {
      return isStage ? { kind: 'failed', error } : failedWith(error, window);
    } finally {
      // A run that has timed out is followed until it settles.
      if (this.timeLimit(open) === undefined) calls.end(call);
      if (noted) await noted;
    }
  }

  private async handleThere(
    remote: ExecutorCalls,
    open: InFlightWindow,
    window: BatchWindow,
    signal: AttemptSignal,
    note: Note | undefined,
  ): Promise<Handled> {
    notify(this.term, 'onProcess', window);
    const noted = begins(this.term, open);
    try {
      const handled = await remote.run(open, window, signal);
      // Before hooks and sinks get to see what it is.
      if (note?.at === 'answer' && isAnswer(handled)) await note.store();
      if (handled.kind === 'handled') notify(this.term, 'onEmit', window, handled.result);
      return handled;
    } finally {
      if (noted) await noted;
    }
  }
}

/** The stage gets it, and not the handler. */
export function isForStage({ definition }: LeaseTerm, { ofRows }: InFlightWindow): boolean {
  return definition.stage !== undefined && !ofRows;
}

/** Lost workers are counted apart. */
function isAnswer(handled: Handled): boolean {
  return handled.kind === 'handled' || (handled.kind === 'failed' && !handled.isLost);
}

/** Some may have vanished from the buffer, or can't be decoded: the indices are those of the record. */
export function messagesOf(
  { record, readable }: InFlightWindow,
  part: IndexRange | undefined,
): readonly StoredMessage[] {
  if (!part) return readable;
  const { from, to } = part;
  if (readable.length === record.messageIds.length) return readable.slice(from, to);
  const ids = new Set(record.messageIds.slice(from, to));
  return readable.filter(({ id }) => ids.has(id));
}

export function windowOf(
  { definition }: LeaseTerm,
  open: InFlightWindow,
  part: IndexRange | undefined,
  signal: WindowSignals,
): BatchWindow {
  const { key } = definition;
  const { record, ofRows } = open;
  const isWhole = !part || part.to - part.from === record.messageIds.length;
  if (isWhole) return new BatchWindow(key, record, open.readable, signal, undefined, undefined, ofRows?.facts);
  const messages = messagesOf(open, part);
  const ids = messages.map((message) => message.id);
  const id = windowId(key.stream, key.group, key.partition, ids, {}, ofRows?.name);
  const piece = { id, from: part.from, to: part.to };
  return new BatchWindow(key, record, messages, signal, piece, undefined, ofRows?.facts);
}

export function indicesOf(record: WindowRecord, rejected: ReadonlyMap<string, unknown>): readonly number[] {
  if (rejected.size === 0) return [];
  return record.messageIds.flatMap((id, index) => (rejected.has(id) ? [index] : []));
}
