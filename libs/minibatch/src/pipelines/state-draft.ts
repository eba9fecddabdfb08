import { isA } from '../errors/error-text.js';
import type { StageChanges } from '../engine/engine.interface.js';
import type { StateView } from '../flow/window-logic.js';

/** What a row costs in a commit apart from its value and its slot: as the engine counts it, or more. */
const OVERHEAD = 64;

/** Rows as a step that may be made once more leaves them. */
export class StateDraft implements StateView {
  /** Undefined: it is removed. */
  private readonly changed = new Map<
    string,
    { readonly value: unknown; readonly due: number | undefined } | undefined
  >();

  constructor(private readonly state: StateView) {}

  get(slot: string): unknown {
    return this.changed.has(slot) ? this.changed.get(slot)?.value : this.state.get(slot);
  }

  put(slot: string, value: unknown, due?: number): void {
    this.changed.set(slot, { value, due });
  }

  remove(slot: string): void {
    this.changed.set(slot, undefined);
  }

  /** Of the largest row, as stored. Infinity: it is larger than can be encoded. */
  largest(changes: Pick<StageChanges, 'sizeOf'>): number {
    let largest = 0;
    try {
      for (const row of this.changed.values()) {
        if (row) largest = Math.max(largest, changes.sizeOf(row.value as object));
      }
    } catch (error) {
      if (isA(error, RangeError)) return Infinity;
      throw error;
    }
    return largest;
  }

  /** What its rows take in a commit. */
  bytes(changes: Pick<StageChanges, 'sizeOf'>): number {
    let bytes = 0;
    for (const [slot, row] of this.changed) {
      bytes += OVERHEAD + Buffer.byteLength(slot) + (row ? changes.sizeOf(row.value as object) : 0);
    }
    return bytes;
  }

  save(): void {
    for (const [slot, row] of this.changed) {
      if (row) this.state.put(slot, row.value, row.due);
      else this.state.remove(slot);
    }
  }
}
