import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import type { AppendOutcome, MessageId } from '../storage/stream-store.interface.js';
import { counted } from '../common/counted.js';

/** The message is stored: under this id, or by an earlier append with the same `dedupeId`. */
export type AppendResult =
  { readonly id: MessageId; readonly duplicate?: undefined } | { readonly duplicate: true; readonly id?: undefined };

/** What became of a message that `appendMany` could not store; in `details.failed` of its error. */
export interface FailedAppend {
  /** Position in the call. */
  readonly index: number;
  readonly stored: 'no' | 'unknown';
  readonly error: Error;
}

/** @throws what the message failed with */
export function resultOf(outcome: AppendOutcome | undefined): AppendResult {
  if (outcome?.status === 'stored') return { id: outcome.id };
  if (outcome?.status === 'duplicate') return { duplicate: true };
  if (outcome) throw outcome.error;
  throw new AppendError(ErrorCode.AppendFailed, 'the store gave no answer for the message', 'unknown');
}

/** @throws AppendError that tells which messages failed */
export function resultsOf(stream: string, outcomes: readonly AppendOutcome[]): readonly AppendResult[] {
  checkOutcomes(stream, outcomes);
  return outcomes.map(resultOf);
}

/** @throws AppendError that tells which messages failed */
export function checkOutcomes(stream: string, outcomes: readonly AppendOutcome[]): void {
  const failed: FailedAppend[] = [];
  outcomes.forEach((outcome, index) => {
    if (outcome.status !== 'failed') return;
    const { error } = outcome;
    failed.push({ index, stored: error instanceof AppendError ? error.stored : 'unknown', error });
  });
  const [first] = failed;
  if (first === undefined) return;
  throw new AppendError(
    first.error instanceof AppendError ? first.error.code : ErrorCode.AppendFailed,
    `${failed.length} of ${counted(outcomes.length, 'message')} could not be appended to '${stream}'; the first is number ${first.index}: ${first.error.message}`,
    failed.some(({ stored }) => stored === 'unknown') ? 'unknown' : 'no',
    {
      cause: first.error,
      details: {
        failed,
        results: outcomes.map((outcome) => (outcome.status === 'failed' ? undefined : resultOf(outcome))),
      },
    },
  );
}
