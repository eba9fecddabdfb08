import { counted } from '../common/counted.js';
import type { NamedSink } from '../engine/engine.interface.js';
import { isA } from '../errors/error-text.js';
import { codeOf, ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import type { Message } from '../windows/message.js';
import type { Window } from '../windows/window.js';
import { BatchState } from './batch-state.js';
import { AsyncFailure, type AsyncStep, MessageRun, type Output, type Take } from './message-run.js';

export interface BatchRunnerParts {
  readonly take: Take;
  /** In the order of their numbers. */
  readonly sinks: readonly NamedSink[];
  readonly concurrency: number;
  /** Runs of a message whose asynchronous function fails while it works for others. */
  readonly attempts: number;
  /** Whether messages are given up that are all that came to an asynchronous function. */
  readonly givesUpAll: boolean;
}

/** What became of the messages of a batch. */
export interface BatchOutcome {
  /** Messages to give up, and why. */
  readonly bad: ReadonlyMap<Message, unknown>;
  /** Of each other message, in their order. */
  readonly outputs: ReadonlyMap<Message, readonly Output[]>;
}

interface Failed {
  readonly message: Message;
  readonly step: AsyncStep;
  readonly error: unknown;
}

/**
 * Runs the functions of a pipeline with each message of a batch.
 *
 * ```text
 * messages ─▶ functions ─┬─ all through, or bad ────────▶ sinks ─▶ outcome
 *                ▲       └─ some failed asynchronously
 *                │             │ with all that came to the function: nothing is given up (onAllFailed)
 *                │             │ attempts left
 *                └── backoff ◀─┤
 *                              │ used up: one that the function worked for is tried once more
 *                              ├─ it fails, too: what the function calls is down
 *                              └─ it works: the others are bad ─▶ dead letters
 * ```
 *
 * An attempt that throws is made again by the engine, with its backoff, log lines and status.
 */
export class BatchRunner {
  /** What each partition is working on. */
  private readonly batches = new Map<number, BatchState>();

  constructor(private readonly parts: BatchRunnerParts) {}

  withSinks(replace: (sink: NamedSink) => NamedSink): BatchRunner {
    return new BatchRunner({ ...this.parts, sinks: this.parts.sinks.map(replace) });
  }

  /** All but the sinks. @throws MinibatchError if it has to be called again */
  async run(window: Window): Promise<BatchOutcome> {
    const { take, concurrency } = this.parts;
    const { messages, signal } = window;
    const batch = this.batchOf(window);
    await batch.run(take, messages, concurrency, signal);
    const failed = await this.judge(window, batch);
    const bad = new Map<Message, unknown>();
    const outputs = new Map<Message, readonly Output[]>();
    for (const message of messages) {
      const outcome = batch.of(message)?.outcome;
      if (outcome?.kind === 'bad') bad.set(message, outcome.error);
      if (outcome?.kind === 'through') outputs.set(message, outcome.outputs);
    }
    for (const { message, error } of failed) bad.set(message, error);
    return { bad, outputs };
  }

  /** The batch will not be run again. */
  end({ partition, messages }: Window): void {
    const batch = this.batches.get(partition);
    batch?.forget(messages);
    if (batch?.isEmpty) this.batches.delete(partition);
  }

  /** One that was too large comes again in parts, whose messages are through or bad already. */
  private batchOf({ partition, id, messages }: Window): BatchState {
    const known = this.batches.get(partition);
    if (known?.window === id) return known;
    const batch = new BatchState(id, partition, known?.isOf(messages) ? known : undefined);
    this.batches.set(partition, batch);
    return batch;
  }

  /** The messages to give up whose asynchronous functions have failed. Throws if it is too early to say. */
  private async judge(window: Window, batch: BatchState): Promise<readonly Failed[]> {
    const failed = failedOf(window, batch);
    if (failed.length === 0) return failed;
    const { attempts, givesUpAll } = this.parts;
    if (!givesUpAll) {
      for (const { step, error } of failed) if (!hasPassed(batch, step)) throw allFailed(failed, step, error);
    }
    const left = failed.filter(({ message }) => batch.count(message) < attempts);
    if (left.length > 0) throw someFailed(failed, window.messages.length);
    if (!givesUpAll) await this.control(window, batch, failed);
    return failed;
  }

  /** Whether what the functions call is still there: a message that got through is not to blame if it fails now. */
  private async control(window: Window, batch: BatchState, failed: readonly Failed[]): Promise<void> {
    for (const step of new Set(failed.map((each) => each.step))) {
      const message = window.messages.find((each) => batch.of(each)?.passed.has(step));
      if (!message) continue;
      const run = new MessageRun(message, undefined, window.partition);
      try {
        await this.parts.take(message.data, run);
      } catch (error) {
        if (!run.passed.has(step)) throw allFailed(failed, step, causeOf(error));
      }
    }
  }

  /**
   * Puts what was made of the batch into its sinks. To be called when it is known that it can be committed.
   *
   * @throws MinibatchError if it has to be called again: sinks that have taken theirs are passed over then
   */
  async deliver(window: Window): Promise<void> {
    const batch = this.batchOf(window);
    for (const [index, { name, sink }] of this.parts.sinks.entries()) {
      if (batch.taken.has(index)) continue;
      const results = batch.resultsFor(index, window.messages);
      if (results.length > 0) {
        window.signal.throwIfAborted();
        try {
          await sink.put(results, index === 0 ? window : numbered(window, index));
        } catch (cause) {
          const text = `${counted(results.length, 'result')} for the sink ${name}, which failed: ${messageOf(cause)}`;
          throw new MinibatchError(codeOf(cause, ErrorCode.SinkFailed), text, { cause });
        }
      }
      batch.taken.add(index);
    }
  }
}

/** Two sinks of one batch may write to the same place: their results have ids of their own. */
function numbered(window: Window, index: number): Window {
  return Object.create(window, { id: { value: `${window.id}/${index + 1}`, enumerable: true } }) as Window;
}

function failedOf({ messages }: Window, batch: BatchState): readonly Failed[] {
  return messages.flatMap((message) => {
    const outcome = batch.of(message)?.outcome;
    return outcome?.kind === 'failed' ? [{ message, step: outcome.step, error: outcome.error }] : [];
  });
}

function hasPassed(batch: BatchState, step: AsyncStep): boolean {
  for (const { passed } of batch.all) if (passed.has(step)) return true;
  return false;
}

function allFailed(failed: readonly Failed[], step: AsyncStep, error: unknown): MinibatchError {
  const { length } = failed.filter((each) => each.step === step);
  const what = length === 1 ? 'its only message' : `all its ${length} messages`;
  return new MinibatchError(
    ErrorCode.AllFailed,
    `${step.name} failed with ${what}, so nothing is given up until it works (onAllFailed): ${messageOf(error)}`,
    { cause: error, details: { step: step.name, messages: length } },
  );
}

function someFailed(failed: readonly Failed[], of: number): MinibatchError {
  const [first] = failed;
  const text = `${first?.step.name} failed, ${failed.length} of ${counted(of, 'message')} are tried again: ${messageOf(first?.error)}`;
  return new MinibatchError(ErrorCode.HandlerFailed, text, { cause: first?.error });
}

function causeOf(error: unknown): unknown {
  return isA(error, AsyncFailure) ? error.cause : error;
}
