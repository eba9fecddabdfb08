import type { AppendOutcome, MessageId } from '../stream-store.interface.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** A message that is being appended, and its outcome. */
export interface Draft {
  readonly document: BufferDocument;
  /** That of the document, in hexadecimal. */
  readonly id: MessageId;
  readonly bytes: number;
  outcome?: AppendOutcome | undefined;
  /** Set if another client's open transaction holds its dedupe id: resolves when the outcome is known. */
  late?: Promise<unknown> | undefined;
}
