import type { AppendOutcome } from '../stream-store.interface.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** A message that is being appended, and its outcome. */
export interface Draft {
  readonly document: BufferDocument;
  readonly bytes: number;
  outcome?: AppendOutcome;
  /** Set if another client's open transaction holds its dedupe id: resolves when the outcome is known. */
  late?: Promise<unknown>;
}
