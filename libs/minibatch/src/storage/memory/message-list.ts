import type { EncodedMessage } from '../encoded-message.js';
import type { MessageId } from '../stream-store.interface.js';

/** A message in the buffer. */
export interface BufferedEntry {
  readonly id: MessageId;
  readonly partition: number;
  /** Milliseconds. */
  readonly created: number;
  readonly encoded: EncodedMessage;
  readonly dedupeId?: string;
  /** Groups that have committed it. */
  readonly doneBy: Set<string>;
  /** One of them wants it kept, and may be gone by now. */
  kept?: true;
}

/**
 * Messages in the order of their ids. Removed ones leave a hole that is closed when there are as many holes as messages, so that
 * appending, finding a place and draining from the front are all cheap.
 */
export class MessageList {
  private entries: (BufferedEntry | undefined)[] = [];
  /** Ids of `entries`, holes included, for the search. */
  private ids: MessageId[] = [];
  private readonly byId = new Map<MessageId, BufferedEntry>();

  get size(): number {
    return this.byId.size;
  }

  get(id: MessageId): BufferedEntry | undefined {
    return this.byId.get(id);
  }

  /** The id must be greater than all that have been pushed before. */
  push(entry: BufferedEntry): void {
    this.entries.push(entry);
    this.ids.push(entry.id);
    this.byId.set(entry.id, entry);
  }

  delete(id: MessageId): void {
    if (!this.byId.delete(id)) return;
    const at = this.indexAfter(id) - 1;
    this.entries[at] = undefined;
    if (this.entries.length > 64 && this.entries.length > this.byId.size * 2) this.compact();
  }

  /** Those with an id greater than `after`; from the start without it. */
  *after(after: MessageId | undefined): Generator<BufferedEntry> {
    const { entries } = this;
    for (let at = after === undefined ? 0 : this.indexAfter(after); at < entries.length; at += 1) {
      const entry = entries[at];
      if (entry !== undefined) yield entry;
    }
  }

  private indexAfter(id: MessageId): number {
    let low = 0;
    let high = this.ids.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ids[middle]! <= id) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private compact(): void {
    const kept = this.entries.filter((entry) => entry !== undefined);
    this.entries = kept;
    this.ids = kept.map((entry) => entry.id);
  }
}
