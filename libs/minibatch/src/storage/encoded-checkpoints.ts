import { type FailedCheckpoint, isDue } from './checkpoints.js';
import { encodeValue } from './encoded-message.js';
import type { AppendOutcome, Checkpoint } from './stream-store.interface.js';

export interface EncodedCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly bytes: Buffer;
}

/** The positions of one append, encoded before its transaction, where one that can't be encoded would fail everything. */
export class EncodedCheckpoints {
  private readonly encoded: EncodedCheckpoint[] = [];
  private readonly refused: FailedCheckpoint[] = [];

  constructor(checkpoints: readonly Checkpoint[]) {
    for (const checkpoint of checkpoints) {
      try {
        this.encoded.push({ checkpoint, bytes: encodeValue(checkpoint.position) });
      } catch (error) {
        this.refused.push({ checkpoint, error });
      }
    }
  }

  get streams(): readonly string[] {
    return this.encoded.map(({ checkpoint }) => checkpoint.stream);
  }

  /** Those whose messages are all in the store; of one source the last, so that each is written once. */
  due(outcomes: readonly AppendOutcome[]): readonly EncodedCheckpoint[] {
    const last = new Map<string, EncodedCheckpoint>();
    for (const each of this.encoded) {
      if (isDue(each.checkpoint, outcomes)) last.set(`${each.checkpoint.stream}\0${each.checkpoint.source}`, each);
    }
    return [...last.values()];
  }

  /** Those that are due and can't be encoded. */
  failed(outcomes: readonly AppendOutcome[]): readonly FailedCheckpoint[] {
    return this.refused.filter(({ checkpoint }) => isDue(checkpoint, outcomes));
  }
}
