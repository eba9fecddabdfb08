import type { StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';

/** A claimed window on its way through the loop: ready, running, finished, committing. */
export interface OpenWindow {
  /** As it lies in the store; replaced when an attempt failed. */
  record: WindowRecord;
  readonly messages: readonly StoredMessage[];
  /** Sum of their sizes. */
  readonly bytes: number;
}

export function openWindow(record: WindowRecord, messages: readonly StoredMessage[]): OpenWindow {
  return { record, messages, bytes: messages.reduce((sum, { bytes }) => sum + bytes, 0) };
}
