/**
 * A map that forgets what was set longest ago once it has more than `most` entries.
 *
 * A `Map` keeps deleted entries until it is made anew, so that each look for the first one from its start passes all that were deleted
 * since: one iterator is kept, which continues from the last entry that was forgotten.
 */
export class BoundedMap<K, V> {
  private readonly entries = new Map<K, V>();
  private oldest = this.entries.keys();

  constructor(private readonly most: number) {}

  get size(): number {
    return this.entries.size;
  }

  has(key: K): boolean {
    return this.entries.has(key);
  }

  get(key: K): V | undefined {
    return this.entries.get(key);
  }

  /** As the newest, also if it was there. */
  set(key: K, value: V): void {
    this.entries.delete(key);
    this.entries.set(key, value);
    if (this.entries.size > this.most) this.forgetOldest();
  }

  /** All that `isPast`. */
  forget(isPast: (value: V) => boolean): void {
    for (const [key, value] of this.entries) if (isPast(value)) this.entries.delete(key);
  }

  private forgetOldest(): void {
    let { done, value } = this.oldest.next();
    if (done) {
      // It came to the end once, when there was nothing more.
      this.oldest = this.entries.keys();
      ({ done, value } = this.oldest.next());
    }
    if (!done) this.entries.delete(value as K);
  }
}
