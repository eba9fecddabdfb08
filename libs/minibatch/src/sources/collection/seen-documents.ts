import { compareValues, type CursorValue } from './cursor-value.js';

/** Beyond this many the oldest are forgotten. Their documents are appended again, and ignored for their dedupe ids. */
const MOST = 100_000;

/** Which documents of the look-back have been appended. */
export class SeenDocuments {
  private readonly values = new Map<string, CursorValue>();

  has(id: string): boolean {
    return this.values.has(id);
  }

  add(id: string, value: CursorValue): void {
    this.values.set(id, value);
    if (this.values.size <= MOST) return;
    const [oldest] = this.values.keys();
    if (oldest !== undefined) this.values.delete(oldest);
  }

  forgetBelow(from: CursorValue): void {
    for (const [id, value] of this.values) if (compareValues(value, from) < 0) this.values.delete(id);
  }
}
