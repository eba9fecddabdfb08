import { ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import type { AppendOutcome, Checkpoint } from './stream-store.interface.js';

/** A position that was due and could not be stored. */
export interface FailedCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly error: unknown;
}

/**
 * `append` has answered for all messages, and some positions that were due could not be stored: their sources resume from an older one
 * after a restart, and read messages again.
 */
export class CheckpointError extends MinibatchError {
  override readonly name: string = 'CheckpointError';

  constructor(
    /** What became of the messages. */
    readonly outcomes: readonly AppendOutcome[],
    readonly failed: readonly FailedCheckpoint[],
  ) {
    const [first] = failed;
    const what = first ? `of source '${first.checkpoint.source}' on '${first.checkpoint.stream}'` : '';
    const others = failed.length > 1 ? ` (and ${failed.length - 1} more)` : '';
    super(
      ErrorCode.CheckpointFailed,
      `The messages are stored, but not the position ${what}${others}: ${messageOf(first?.error)}. ` +
        'After a restart the source reads from its previous position; give messages a dedupeId so that they are not duplicated',
      {
        cause: first?.error,
        details: { checkpoints: failed.map(({ checkpoint: { stream, source } }) => ({ stream, source })) },
      },
    );
  }
}

/** By its content: an adapter may have its own copy of the package. */
export function isCheckpointError(error: unknown): error is CheckpointError {
  return error instanceof Error && 'code' in error && error.code === ErrorCode.CheckpointFailed && 'outcomes' in error;
}

/** Whether all messages that the position stands for are in the store. */
export function isDue({ from, to }: Checkpoint, outcomes: readonly AppendOutcome[]): boolean {
  for (let index = from; index < to; index += 1) {
    const status = outcomes[index]?.status;
    if (status !== 'stored' && status !== 'duplicate') return false;
  }
  return true;
}

/** @throws CheckpointError if positions could not be stored */
export function answered(
  outcomes: readonly AppendOutcome[],
  failed: readonly FailedCheckpoint[],
): readonly AppendOutcome[] {
  if (failed.length > 0) throw new CheckpointError(outcomes, failed);
  return outcomes;
}
