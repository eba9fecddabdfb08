import { SteadyResult } from '../common/steady-result.js';
import { isA } from '../errors/error-text.js';
import type { Message } from '../windows/message.js';
import { AsyncFailure, type AsyncStep, MessageRun, type Output, type Take } from './message-run.js';

/** What became of a message in its last run. */
export type Outcome =
  | { readonly kind: 'through'; readonly outputs: readonly Output[]; readonly bytes: number }
  /** A synchronous function threw: it would again. */
  | { readonly kind: 'bad'; readonly error: unknown }
  | { readonly kind: 'failed'; readonly step: AsyncStep; readonly error: unknown };

/** A message of a batch, over all attempts. */
export interface Tried {
  readonly outcome: Outcome;
  /** Asynchronous functions that have worked for it, in any run. */
  readonly passed: ReadonlySet<AsyncStep>;
  /** Runs that failed while the function worked for other messages. */
  readonly tries: number;
}

/**
 * What is known of a batch, as long as this process works on it: an attempt that fails is made again with those messages only that failed.
 * It is lost with the process, and then all functions run again.
 */
export class BatchState {
  private readonly tried: Map<string, Tried>;
  /** What goes into each sink, by its number. */
  private readonly results = new Map<number, SteadyResult>();
  /** Sinks that have taken theirs. */
  readonly taken = new Set<number>();

  /** @param before what is known of these messages from a larger batch */
  constructor(
    readonly window: string,
    private readonly partition: number,
    before?: BatchState,
  ) {
    this.tried = new Map(before?.tried);
  }

  /** Whether something is known of these messages. */
  isOf(messages: readonly Message[]): boolean {
    return messages.some(({ id }) => this.tried.has(id));
  }

  get isEmpty(): boolean {
    return this.tried.size === 0;
  }

  forget(messages: readonly Message[]): void {
    for (const { id } of messages) this.tried.delete(id);
  }

  of(message: Message): Tried | undefined {
    return this.tried.get(message.id);
  }

  get all(): Iterable<Tried> {
    return this.tried.values();
  }

  /** Runs the messages that are neither through nor bad, so many of them at once. */
  async run(take: Take, messages: readonly Message[], concurrency: number, signal: AbortSignal): Promise<void> {
    const due = messages.filter((message) => {
      const tried = this.of(message);
      return !tried || tried.outcome.kind === 'failed';
    });
    let next = 0;
    const work = async () => {
      for (let message = due[next]; message && !signal.aborted; message = due[next]) {
        next += 1;
        const done = this.one(take, message, signal);
        if (done) await done;
      }
    };
    await Promise.all(Array.from({ length: Math.min(concurrency, due.length) }, work));
    signal.throwIfAborted();
  }

  /** The message has failed while others have not. */
  count(message: Message): number {
    const tried = this.of(message);
    if (!tried) return 0;
    const tries = tried.tries + 1;
    this.tried.set(message.id, { ...tried, tries });
    return tries;
  }

  resultsFor(sink: number, messages: readonly Message[]): readonly unknown[] {
    let results = this.results.get(sink);
    if (!results) {
      results = new SteadyResult(
        messages.flatMap((message) => {
          const outcome = this.of(message)?.outcome;
          const outputs = outcome?.kind === 'through' ? outcome.outputs : [];
          return outputs.flatMap((output) => (output.kind === 'result' && output.sink === sink ? [output.data] : []));
        }),
      );
      this.results.set(sink, results);
    }
    return results.value as readonly unknown[];
  }

  private one(take: Take, message: Message, signal: AbortSignal): Promise<void> | undefined {
    const run = new MessageRun(message, undefined, this.partition);
    const note = (outcome: Outcome) => {
      // An attempt that is over: the next one may have judged the message by now.
      if (signal.aborted) return;
      const before = this.of(message);
      const passed = before ? new Set([...before.passed, ...run.passed]) : run.passed;
      this.tried.set(message.id, { outcome, passed, tries: before?.tries ?? 0 });
    };
    const through = () => note({ kind: 'through', outputs: run.outputs, bytes: run.bytes });
    try {
      const running = take(message.data, run);
      if (running) return running.then(through, (error: unknown) => note(outcomeOf(error)));
      through();
    } catch (error) {
      note(outcomeOf(error));
    }
    return undefined;
  }
}

function outcomeOf(error: unknown): Outcome {
  if (!isA(error, AsyncFailure)) return { kind: 'bad', error };
  return { kind: 'failed', step: error.step, error: error.cause };
}
