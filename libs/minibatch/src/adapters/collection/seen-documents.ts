import { BoundedMap } from '../../common/bounded-map.js';
import { compareValues, type CursorValue } from './cursor-value.js';

/** Beyond this many the oldest are forgotten. Their documents are appended again, and ignored for their dedupe ids. */
const MOST = 100_000;

/** Which documents of the look-back have been appended. */
export class SeenDocuments {
  private readonly values = new BoundedMap<string, CursorValue>(MOST);

  has(id: string): boolean {
    return this.values.has(id);
  }

  add(id: string, value: CursorValue): void {
    this.values.set(id, value);
  }

  forgetBelow(from: CursorValue): void {
    this.values.forget((value) => compareValues(value, from) < 0);
  }
}
