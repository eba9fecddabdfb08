import type { StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';

/** A claimed window on its way through the loop: ready, running, finished, committing. */
export interface OpenWindow {
  /** As it lies in the store; replaced when an attempt failed. */
  record: WindowRecord;
  /** All that leave with it. */
  readonly messages: readonly StoredMessage[];
  /** What the handler gets of them: all but those that can't be decoded, which are dead letters. */
  readable: readonly StoredMessage[];
  /** Sum of their sizes. */
  readonly bytes: number;
  /** Open when a process was cut off: it may be what ended it. */
  readonly suspect: boolean;
}

export function openWindow(record: WindowRecord, messages: readonly StoredMessage[], suspect = false): OpenWindow {
  return { record, messages, readable: messages, suspect, bytes: messages.reduce((sum, { bytes }) => sum + bytes, 0) };
}
