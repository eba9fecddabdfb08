import { createdOf, type EncodedMessage, encodedOf } from '../encoded-message.js';
import type { ConsumerKey, DeadLetterFilter, MessageId, NewDeadLetter } from '../stream-store.interface.js';

/** A dead letter; its message as bytes, so that it goes back into the buffer as it was. */
export interface DeadLetterEntry {
  readonly id: string;
  readonly group: string;
  readonly partition: number;
  readonly messageId: MessageId;
  /** Milliseconds. */
  readonly created: number;
  readonly encoded: EncodedMessage;
  readonly note: Pick<NewDeadLetter, 'window' | 'consumer' | 'attempts' | 'error' | 'stack'>;
  /** Milliseconds. */
  readonly died: number;
}

/** The dead letters of a stream, in the order of their ids. */
export class DeadLetterList {
  private readonly letters = new Map<string, DeadLetterEntry>();
  /** The groups' messages in the list, with their number of letters: two where one group has replaced another. */
  private readonly buried = new Map<string, number>();

  get size(): number {
    return this.letters.size;
  }

  /**
   * A message that is in the list already stays as it is.
   *
   * @param nextId returns ids that grow
   */
  add({ group, partition }: ConsumerKey, letter: NewDeadLetter, nextId: () => string): void {
    const { message, window, consumer, attempts, error, stack, died } = letter;
    const mark = markOf(group, message.id);
    if (this.buried.has(mark)) return;
    const encoded = encodedOf(message);
    const id = nextId();
    this.buried.set(mark, 1);
    this.letters.set(id, {
      id,
      group,
      partition,
      messageId: message.id,
      created: createdOf(encoded).getTime(),
      encoded,
      note: { window, consumer, attempts, error, ...(stack !== undefined && { stack }) },
      died: died.getTime(),
    });
  }

  /** Those that match all that is given and have an id greater than `after`. */
  *select({ group, ids, before }: DeadLetterFilter, after?: string): Generator<DeadLetterEntry> {
    const named = ids && new Set(ids);
    for (const letter of this.letters.values()) {
      if (after !== undefined && letter.id <= after) continue;
      if (group !== undefined && letter.group !== group) continue;
      if (named?.has(letter.id) === false) continue;
      if (before !== undefined && letter.died >= before.getTime()) continue;
      yield letter;
    }
  }

  delete({ id, group, messageId }: DeadLetterEntry): void {
    if (this.letters.delete(id)) this.count(markOf(group, messageId), -1);
  }

  /** Hands the letters of one group to another. */
  rename(from: string, to: string): void {
    for (const letter of [...this.select({ group: from })]) {
      // In place, so that the order stays.
      this.letters.set(letter.id, { ...letter, group: to });
      this.count(markOf(from, letter.messageId), -1);
      this.count(markOf(to, letter.messageId), 1);
    }
  }

  private count(mark: string, change: number): void {
    const count = (this.buried.get(mark) ?? 0) + change;
    if (count > 0) this.buried.set(mark, count);
    else this.buried.delete(mark);
  }
}

function markOf(group: string, messageId: MessageId): string {
  return `${group}\0${messageId}`;
}
