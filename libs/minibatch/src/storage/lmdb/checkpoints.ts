import { type FailedCheckpoint, isDue } from '../checkpoints.js';
import { decodeValue, encodeValue } from '../encoded-message.js';
import type { AppendOutcome, Checkpoint } from '../stream-store.interface.js';
import { ensureStreamId, findStreamId } from './stream-records.js';
import { checkpointKey } from './keys.js';
import type { ReadView, WriteView } from './view.js';

/** The positions of one write, encoded before its transaction, where one that can't be encoded would fail everything. */
export class EncodedCheckpoints {
  private readonly encoded: { readonly checkpoint: Checkpoint; readonly bytes: Buffer }[] = [];
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

  write(view: WriteView, outcomes: readonly AppendOutcome[]): void {
    for (const { checkpoint, bytes } of this.encoded) {
      if (!isDue(checkpoint, outcomes)) continue;
      view.put(checkpointKey(ensureStreamId(view, checkpoint.stream), checkpoint.source), bytes);
    }
  }

  failed(outcomes: readonly AppendOutcome[]): readonly FailedCheckpoint[] {
    return this.refused.filter(({ checkpoint }) => isDue(checkpoint, outcomes));
  }
}

/** Undefined if there is none. */
export function readCheckpoint(view: ReadView, stream: string, source: string): unknown {
  const id = findStreamId(view, stream);
  const stored = id === undefined ? undefined : view.get(checkpointKey(id, source));
  return stored && decodeValue(stored);
}
