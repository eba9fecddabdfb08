import type { BufferedMessage, Message } from './message.js';
import type { MessageView } from './window-emitter.js';

/** Gaps at the head are closed when they are at least so long and make up half of the array. */
const COMPACT_FROM = 1024;

/**
 * The messages that were read and not yet claimed, in the order in which they were read; what lies behind a strategy's
 * `MessageView`. The read-ahead fills it and sets its flags, the cutter takes windows out.
 *
 * Removing a prefix of n messages costs O(n), however many follow; any other selection costs one pass over the buffer.
 */
export class MessageBuffer<M extends BufferedMessage = BufferedMessage> implements MessageView {
  /** Those before `head` are gone, and holes. */
  private items: (M | undefined)[] = [];
  /** Messages before this index were removed. */
  private head = 0;
  private list: readonly M[] | undefined;
  private byId: Map<string, M> | undefined;
  private sumOfBytes = 0;
  private passed = 0;
  private changes = 0;
  private time = 0;
  /** Goes with `now`; no change of its own. */
  monotonic = 0;
  private isComplete = false;
  private foundAt: MessageView['readAt'];
  private isSaturated = false;
  private isFlushing = false;
  private idle = 1;

  get length(): number {
    return this.items.length - this.head;
  }

  /** Sum of the messages' sizes as stored. */
  get bytes(): number {
    return this.sumOfBytes;
  }

  get first(): M | undefined {
    return this.items[this.head];
  }

  get messages(): readonly M[] {
    // A copy even when nothing was removed: a strategy that sorts it in place must not sort the buffer.
    return (this.list ??= this.items.slice(this.head) as M[]);
  }

  take(n: number): readonly M[] {
    return this.items.slice(this.head, this.head + Math.max(0, Math.trunc(n))) as M[];
  }

  /** The message with this id, if it is here. */
  get(id: string): M | undefined {
    this.byId ??= new Map(this.messages.map((message) => [message.id, message]));
    return this.byId.get(id);
  }

  /** Are these the very first messages, in this order? True for none at all. */
  startsWith(messages: readonly Message[]): boolean {
    return messages.length <= this.length && messages.every((message, i) => this.items[this.head + i] === message);
  }

  /** Adds messages behind the others. None of them may be here already. */
  push(messages: readonly M[]): void {
    if (messages.length === 0) return;
    for (const message of messages) {
      this.items.push(message);
      this.sumOfBytes += message.bytes;
      this.byId?.set(message.id, message);
    }
    this.changed();
  }

  /** Adds messages before the others: they were taken out, and are to be chosen from once more. */
  putBack(messages: readonly M[]): void {
    if (messages.length === 0) return;
    this.items = [...messages, ...this.messages];
    this.head = 0;
    for (const message of messages) {
      this.sumOfBytes += message.bytes;
      this.byId?.set(message.id, message);
    }
    this.changed();
  }

  /**
   * Takes messages out, by id; those that are not here are ignored. Then there is room again: no longer `saturated`.
   */
  remove(messages: readonly Message[]): void {
    if (messages.length === 0) return;
    const before = this.length;
    if (this.startsWith(messages)) this.removeFirst(messages.length);
    else this.removeSome(messages);
    if (this.length === before) return;
    this.isSaturated = false;
    this.changed();
  }

  clear(): void {
    this.items = [];
    this.head = 0;
    this.byId = undefined;
    this.sumOfBytes = 0;
    this.passed = 0;
    this.isSaturated = false;
    this.changed();
  }

  /**
   * Messages at the head that stayed although later ones were taken, or although a strategy was asked and took none.
   */
  get passedOver(): number {
    return this.passed;
  }

  /** A strategy has looked at all that is here and takes nothing. */
  passOverAll(): void {
    this.passed = this.length;
  }

  /** Differs whenever a strategy might see a difference. */
  get version(): number {
    return this.changes;
  }

  get now(): number {
    return this.time;
  }
  set now(now: number) {
    if (now !== this.time) this.changes += 1;
    this.time = now;
  }

  /** False from the moment reading turns to another part of the stream until that has been read to its end. */
  get complete(): boolean {
    return this.isComplete;
  }
  set complete(complete: boolean) {
    if (complete !== this.isComplete) this.changes += 1;
    this.isComplete = complete;
  }

  get readAt(): MessageView['readAt'] {
    return this.foundAt;
  }
  set readAt(readAt: MessageView['readAt']) {
    this.changes += 1;
    this.foundAt = readAt;
  }

  get saturated(): boolean {
    return this.isSaturated;
  }
  set saturated(saturated: boolean) {
    if (saturated !== this.isSaturated) this.changes += 1;
    this.isSaturated = saturated;
  }

  get flushing(): boolean {
    return this.isFlushing;
  }
  set flushing(flushing: boolean) {
    if (flushing !== this.isFlushing) this.changes += 1;
    this.isFlushing = flushing;
  }

  get workerFree(): boolean {
    return this.idle > 0;
  }

  /** Workers that wait for a window. The cutter counts down with each window it makes. */
  get freeWorkers(): number {
    return this.idle;
  }
  set freeWorkers(count: number) {
    if (count > 0 !== this.idle > 0) this.changes += 1;
    this.idle = count;
  }

  private removeFirst(n: number): void {
    for (let i = this.head; i < this.head + n; i += 1) this.forget(this.items[i]);
    this.head += n;
    this.passed = Math.max(0, this.passed - n);
    if (this.head >= COMPACT_FROM && this.head * 2 >= this.items.length) {
      this.items = this.items.slice(this.head);
      this.head = 0;
    } else if (this.head === this.items.length) {
      this.items = [];
      this.head = 0;
    } else {
      // So that removed messages can be collected before the array is compacted: a hole costs 8 bytes, a message may
      // hold MBs.
      this.items.fill(undefined, this.head - n, this.head);
    }
  }

  private removeSome(messages: readonly Message[]): void {
    const ids = new Set(messages.map((message) => message.id));
    const kept: M[] = [];
    let passed = 0;
    for (let i = this.head; i < this.items.length; i += 1) {
      const message = this.items[i] as M;
      if (ids.has(message.id)) {
        this.forget(message);
        passed = kept.length;
      } else {
        kept.push(message);
        if (i - this.head < this.passed) passed = kept.length;
      }
    }
    this.items = kept;
    this.head = 0;
    this.passed = passed;
  }

  private forget(message: M | undefined): void {
    if (!message) return;
    this.sumOfBytes -= message.bytes;
    this.byId?.delete(message.id);
  }

  private changed(): void {
    this.list = undefined;
    this.changes += 1;
  }
}
