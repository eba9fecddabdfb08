import { AppendError, ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { type EncodedMessage, encodeMessage } from '../encoded-message.js';
import type { AppendOutcome, NewMessage } from '../stream-store.interface.js';
import { AnswerLost } from './database.js';
import { advice, appendCodeOf, isOutOfReach, reasonOf } from './store-errors.js';

/** Limits of one statement. */
export const STATEMENT_LIMITS = { items: 5_000, bytes: 16 * 1024 * 1024 };

/** A message on its way. */
export interface Draft {
  readonly index: number;
  readonly message: NewMessage;
  readonly encoded: EncodedMessage;
  outcome?: AppendOutcome;
}

/** Messages that cannot be stored get their outcome here. */
export function draftsOf(messages: readonly NewMessage[], outcomes: AppendOutcome[]): readonly Draft[] {
  const drafts: Draft[] = [];
  for (const [index, message] of messages.entries()) {
    try {
      drafts.push({ index, message, encoded: encodeMessage(message) });
    } catch (error) {
      if (!(error instanceof AppendError)) throw error;
      outcomes[index] = { status: 'failed', error };
    }
  }
  return drafts;
}

export function isDeduped({ message }: Draft): boolean {
  return message.dedupeId !== undefined;
}

export function isUnsettled({ outcome }: Draft): boolean {
  return outcome === undefined;
}

export function streamsOf(drafts: readonly Draft[]): readonly string[] {
  return [...new Set(drafts.map(({ message }) => message.stream))];
}

/** @param ids as the statement of `append-statement.ts` has returned them */
export function settleDrafts(drafts: readonly Draft[], ids: readonly (string | null)[]): void {
  for (const [index, draft] of drafts.entries()) {
    const id = ids[index];
    if (id === '') draft.outcome = { status: 'duplicate' };
    else if (id !== null && id !== undefined) draft.outcome = { status: 'stored', id };
  }
}

/** Those that have no outcome yet have failed. */
export function failDrafts(drafts: readonly Draft[], error: unknown): void {
  const isWrapped = error instanceof AnswerLost || (error instanceof MinibatchError && error.cause !== undefined);
  const cause = isWrapped ? error.cause : error;
  const isAway = isOutOfReach(cause);
  const failure = new AppendError(
    appendCodeOf(cause),
    `PostgreSQL could not append: ${reasonOf(cause)}. ${advice(cause)}`,
    error instanceof AnswerLost ? 'unknown' : 'no',
    { cause },
  );
  for (const draft of drafts)
    draft.outcome ??= { status: 'failed', error: failure, ...(isAway && { storeAway: true }) };
}

export function outcomeOf({ outcome }: Draft): AppendOutcome {
  if (outcome !== undefined) return outcome;
  const text = 'the outcome of the message is not known: something outside holds it up, or its stream is being dropped';
  return { status: 'failed', error: new AppendError(ErrorCode.AppendFailed, text, 'unknown') };
}
