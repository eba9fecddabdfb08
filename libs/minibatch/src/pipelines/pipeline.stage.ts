import type { Mutable } from '../common/mutable.js';
import type { NamedSink, Stage, StageChanges } from '../engine/engine.interface.js';
import type { NewMessage } from '../storage/stream-store.interface.js';
import type { Look } from '../flow/watermark.js';
import type { EmitterContext, WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import type { BatchRunner } from './batch-runner.js';
import type { Draft } from './draft.js';
import type { Attempt, Saying } from './feeder.js';
import type { Output } from './message-run.js';
import { StageBatches } from './stage-batches.js';
import { openWindows, ROWS } from './window-stage.js';

/** Sees that the streams of the messages take them, and decides on their partitions. */
export type Prepare = (messages: readonly Mutable<NewMessage>[], closing: AbortSignal) => Promise<void>;

/** Makes batches for a stage without windows. */
export class PlainBatches extends StageBatches {
  /** Whether it is known that no windows are open; another process may have had the lease. */
  isChecked = false;

  override init(context: EmitterContext): void | Promise<void> {
    this.isChecked = false;
    return super.init(context);
  }

  /** Begins to tell steps with windows of the batch, if it brings items to any. */
  feed(window: Window, changes: StageChanges, maxBytes: number): PlainFeeding | undefined {
    const attempt = this.feeder?.attempt();
    const cut = this.cutOf(window);
    changes.whenThrough(() => {
      attempt?.through();
      this.through(window, changes);
    });
    if (!attempt) return undefined;
    const { partitions, began: look } = changes;
    const saying: Saying = {
      ...{ look, partition: window.partition, partitions, maxBytes },
      ...{ isEmpty: window.messages.length === 0, flushed: cut?.flushes === true, gaveResults: false },
    };
    return { attempt, saying, read: cut?.read };
  }

  protected rest(): void {
    // There are no windows.
  }

  protected busy(): void {
    // There are no windows.
  }

  protected get isDue(): boolean {
    return false;
  }

  protected get dueAt(): number {
    return Infinity;
  }

  protected get flushes(): boolean {
    return this.feeder !== undefined;
  }
}

interface PlainFeeding {
  readonly attempt: Attempt;
  readonly saying: Saying;
  readonly read: Look | undefined;
}

/** A stage of a pipeline that remembers nothing: what messages become is appended. */
export class PipelineStage implements Stage {
  readonly values = ROWS;
  readonly cacheBytes = 0;

  /** @param changed what to throw if an earlier version of the pipeline has put messages of this stream into windows, which are open */
  constructor(
    private readonly batches: BatchRunner,
    private readonly prepare: Prepare,
    private readonly changed: (stored: string) => Error,
    /** Of a message. */
    private readonly maxBytes: number,
  ) {}

  readonly run = async (window: Window, changes: StageChanges, strategy: WindowEmitter): Promise<void> => {
    const plain = strategy as PlainBatches;
    if (!plain.isChecked) {
      const open = await openWindows(changes);
      if (open !== undefined) throw this.changed(open);
      plain.isChecked = true;
    }
    const { bad, outputs } = await this.batches.run(window);
    for (const [message, error] of bad) window.reject(message, error);
    const all = [...outputs.values()].flat();
    const made = all.flatMap((output) => (output.kind === 'message' ? [output.message] : []));
    const appends = this.withNotes(made, all, plain.feed(window, changes, this.maxBytes)).map(
      (message): Mutable<NewMessage> => ({ ...message }),
    );
    changes.requireRoom(appends.reduce((sum, message) => sum + changes.costOf(message), 0));
    await this.batches.deliver(window);
    if (appends.length > 0) await this.prepare(appends, window.closing);
    for (const message of appends) changes.append(message);
    window.signal.throwIfAborted();
    this.batches.end(window);
  };

  readonly givenBack = (strategy: WindowEmitter, most: number): void => (strategy as PlainBatches).givenBack(most);

  private withNotes(made: readonly Draft[], outputs: readonly Output[], feeding: PlainFeeding | undefined) {
    if (!feeding) return made;
    const { attempt, saying, read } = feeding;
    attempt.note(outputs, saying.look);
    return [...attempt.before(saying), ...made, ...attempt.behind(saying, read)];
  }

  readonly withSinks = (replace: (sink: NamedSink) => NamedSink): Stage =>
    new PipelineStage(this.batches.withSinks(replace), this.prepare, this.changed, this.maxBytes);
}
