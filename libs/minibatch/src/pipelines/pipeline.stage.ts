import type { Mutable } from '../common/mutable.js';
import type { NamedSink, Stage, StageChanges } from '../engine/engine.interface.js';
import type { NewMessage } from '../storage/stream-store.interface.js';
import type { EmitterContext, WindowEmitter } from '../windows/window-emitter.js';
import type { Window } from '../windows/window.js';
import type { BatchRunner } from './batch-runner.js';
import { SizedBatches } from './sized-batches.js';
import { openWindows, ROWS } from './window-stage.js';

/** Sees that the streams of the messages take them, and decides on their partitions. */
export type Prepare = (messages: readonly Mutable<NewMessage>[], closing: AbortSignal) => Promise<void>;

/** Makes batches for a stage without windows. */
export class PlainBatches extends SizedBatches {
  /** Whether it is known that no windows are open; another process may have had the lease. */
  isChecked = false;

  override init(context: EmitterContext): void | Promise<void> {
    this.isChecked = false;
    return super.init(context);
  }
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
    const appends: Mutable<NewMessage>[] = [];
    for (const each of outputs.values()) {
      for (const output of each) if (output.kind === 'message') appends.push({ ...output.message });
    }
    changes.requireRoom(appends.reduce((sum, message) => sum + changes.costOf(message), 0));
    await this.batches.deliver(window);
    if (appends.length > 0) await this.prepare(appends, window.closing);
    for (const message of appends) changes.append(message);
    window.signal.throwIfAborted();
    changes.whenThrough(() => plain.through(window.messages.length, changes.bytes, changes.limit));
    this.batches.end(window);
  };

  readonly givenBack = (strategy: WindowEmitter, most: number): void => (strategy as PlainBatches).shrink(most);

  readonly withSinks = (replace: (sink: NamedSink) => NamedSink): Stage =>
    new PipelineStage(this.batches.withSinks(replace), this.prepare, this.changed);
}
