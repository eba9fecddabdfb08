import type { EncodedCheckpoint } from '../encoded-checkpoints.js';
import { decodeValue } from '../encoded-message.js';
import { ensureStreamId, findStreamId } from './stream-records.js';
import { checkpointKey } from './keys.js';
import type { ReadView, WriteView } from './view.js';

export function writeCheckpoints(view: WriteView, checkpoints: readonly EncodedCheckpoint[]): void {
  for (const { checkpoint, bytes } of checkpoints) {
    view.put(checkpointKey(ensureStreamId(view, checkpoint.stream), checkpoint.source), bytes);
  }
}

/** Undefined if there is none. */
export function readCheckpoint(view: ReadView, stream: string, source: string): unknown {
  const id = findStreamId(view, stream);
  const stored = id === undefined ? undefined : view.get(checkpointKey(id, source));
  return stored && decodeValue(stored);
}
