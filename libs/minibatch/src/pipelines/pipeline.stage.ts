import type { Mutable } from '../common/mutable.js';
import type { NamedSink, Stage, StageChanges, ValueCodec } from '../engine/engine.interface.js';
import type { NewMessage } from '../storage/stream-store.interface.js';
import type { Window } from '../windows/window.js';
import type { BatchRunner } from './batch-runner.js';

/** Sees that the streams of the messages take them, and decides on their partitions. */
export type Prepare = (messages: readonly Mutable<NewMessage>[], closing: AbortSignal) => Promise<void>;

/** A stage without state has no rows. */
const NO_VALUES: ValueCodec = {
  encode: () => new Uint8Array(),
  decode: () => undefined,
};

/** A stage of a pipeline that remembers nothing: what messages become is appended. */
export class PipelineStage implements Stage {
  readonly values = NO_VALUES;
  readonly cacheBytes = 0;

  constructor(
    private readonly batches: BatchRunner,
    private readonly prepare: Prepare,
  ) {}

  readonly run = async (window: Window, changes: StageChanges): Promise<void> => {
    const { bad, outputs } = await this.batches.run(window);
    for (const [message, error] of bad) window.reject(message, error);
    const appends: Mutable<NewMessage>[] = [];
    for (const each of outputs.values()) {
      for (const output of each) if (output.kind === 'message') appends.push({ ...output.message });
    }
    if (appends.length > 0) await this.prepare(appends, window.closing);
    for (const message of appends) changes.append(message);
    window.signal.throwIfAborted();
    this.batches.end(window);
  };

  readonly withSinks = (replace: (sink: NamedSink) => NamedSink): Stage =>
    new PipelineStage(this.batches.withSinks(replace), this.prepare);
}
