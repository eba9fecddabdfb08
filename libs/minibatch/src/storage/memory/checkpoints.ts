import { type FailedCheckpoint, isDue } from '../checkpoints.js';
import { decodeValue, encodeValue } from '../encoded-message.js';
import type { AppendOutcome, Checkpoint } from '../stream-store.interface.js';
import type { MemoryDatabase } from './memory.database.js';

/** Stores the positions that are due. Returns those that could not be stored. */
export function storeCheckpoints(
  database: MemoryDatabase,
  checkpoints: readonly Checkpoint[],
  outcomes: readonly AppendOutcome[],
): readonly FailedCheckpoint[] {
  const failed: FailedCheckpoint[] = [];
  for (const checkpoint of checkpoints) {
    if (!isDue(checkpoint, outcomes)) continue;
    try {
      const position = encodeValue(checkpoint.position);
      database.ensure(checkpoint.stream).checkpoints.set(checkpoint.source, position);
    } catch (error) {
      failed.push({ checkpoint, error });
    }
  }
  return failed;
}

/** Undefined if there is none. */
export function readCheckpoint(database: MemoryDatabase, stream: string, source: string): unknown {
  const stored = database.streams.get(stream)?.checkpoints.get(source);
  return stored && decodeValue(stored);
}
