import type { AppendOutcome } from '../stream-store.interface.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** A message on its way: its place in the call, and what became of it. */
export interface Draft {
  readonly document: BufferDocument;
  readonly bytes: number;
  outcome?: AppendOutcome;
  /** Another's open transaction holds its dedupe id: what will become of it. */
  late?: Promise<unknown>;
}
