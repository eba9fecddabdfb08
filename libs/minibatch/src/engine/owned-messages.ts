import { LiveSet } from '../common/live-set.js';
import type { Block, MessageId, StoredMessage } from '../storage/stream-store.interface.js';
import type { BufferedMessage } from '../windows/message.js';

/** A message read and not committed: what the store gave, and when it was first seen. */
export type ReadMessage = StoredMessage & BufferedMessage;

/**
 * The messages that this process has read and that have not left the store: those in the buffer, in windows in flight, and in commits
 * that are being settled. What a read returns is subtracted by them, so nothing is handed out twice.
 *
 * An id that is released while a read is in flight stays subtracted until that read has ended, because the read may have begun
 * before the delete.
 */
export class OwnedMessages {
  private readonly ids = new LiveSet<MessageId>();
  private releasedDuringRead: MessageId[] = [];
  private reads = 0;
  private hasCleared = false;
  private readonly damaged = new Set<MessageId>();
  private unreportedDamage: MessageId[] = [];

  constructor(private readonly now: () => number) {}

  get size(): number {
    return this.ids.size;
  }

  has(id: MessageId): boolean {
    return this.ids.has(id);
  }

  /** Messages that recovered windows hold. */
  add(messages: readonly { readonly id: MessageId }[]): void {
    for (const { id } of messages) this.ids.add(id);
  }

  /** These will be read again. Not while a read is in flight. */
  forget(messages: readonly { readonly id: MessageId }[]): void {
    for (const { id } of messages) this.ids.delete(id);
  }

  /** These have left the store. */
  release(messages: readonly { readonly id: MessageId }[]): void {
    if (this.reads > 0) for (const { id } of messages) this.releasedDuringRead.push(id);
    else this.forget(messages);
  }

  /** Runs a read; what is released meanwhile stays owned until it ends. */
  async during<R>(read: () => Promise<R>): Promise<R> {
    this.reads += 1;
    try {
      return await read();
    } finally {
      this.reads -= 1;
      if (this.reads === 0) {
        for (const id of this.releasedDuringRead) this.ids.delete(id);
        this.releasedDuringRead = [];
      }
    }
  }

  /**
   * Those of the messages that were not owned; they are from now on.
   *
   * @param notBefore none of them was there at this time
   */
  adopt(messages: readonly StoredMessage[], notBefore: number): readonly ReadMessage[] {
    const seen = this.now();
    const fresh: ReadMessage[] = [];
    for (const message of messages) {
      if (!this.ids.add(message.id)) continue;
      if (message.cleared) this.hasCleared = true;
      // The store made the object for this read alone: no copy.
      fresh.push(Object.assign(message, { seen, notBefore }));
    }
    return fresh;
  }

  /** As they were read, also those of a window that was taken over. */
  asRead(messages: readonly StoredMessage[]): readonly ReadMessage[] {
    const seen = this.now();
    return messages.map((message) =>
      'seen' in message ? (message as ReadMessage) : Object.assign(message, { seen, notBefore: -Infinity }),
    );
  }

  /** True if messages that a clearing has made unwanted were adopted since this was asked last. */
  takeCleared(): boolean {
    const { hasCleared } = this;
    this.hasCleared = false;
    return hasCleared;
  }

  /** Notes the messages of a block that the store could not decode; they are skipped. */
  skipDamaged({ damaged = [] }: Block): void {
    for (const id of damaged) {
      if (this.damaged.has(id)) continue;
      this.damaged.add(id);
      this.unreportedDamage.push(id);
    }
  }

  /** Damaged messages that were not reported yet. */
  takeDamaged(): readonly MessageId[] {
    const { unreportedDamage } = this;
    if (unreportedDamage.length > 0) this.unreportedDamage = [];
    return unreportedDamage;
  }
}
