import { type ConsumerNote, NOTE_VERSION, type StoredNote } from '../engine/engine.interface.js';

/** Undefined for one of an earlier holder, or of a version that says it otherwise. */
export function readNote(text: string, fence: number): ConsumerNote | undefined {
  try {
    const { v, fence: of, at, status } = JSON.parse(text) as StoredNote;
    return v === NOTE_VERSION && of === fence ? { ...status, at } : undefined;
  } catch {
    return undefined;
  }
}
