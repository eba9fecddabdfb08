import type { Block, StoredMessage } from '../storage/stream-store.interface.js';
import { MessageBuffer } from '../windows/message-buffer.js';
import type { ReadPlan } from '../windows/window-emitter.js';
import type { LeaseTerm } from './lease-term.js';
import { OwnedMessages, type ReadMessage } from './owned-messages.js';
import { StreamCursor } from './stream-cursor.js';
import { counted } from '../common/counted.js';

/**
 * Reads a consumer's part of the stream ahead: fills the buffer that the strategy chooses from, with the part that the strategy wants to
 * see, within its bounds. One read at a time. The only one that fills the buffer and sets its flags.
 */
export class ReadAhead {
  readonly buffer = new MessageBuffer<ReadMessage>();
  readonly owned: OwnedMessages;
  private readonly cursor: StreamCursor;

  private order: ReadPlan['order'] = 'idle';
  /** Unclaimed messages that the strategy may be shown. */
  private room = 0;
  /** End of the pass in order of time. */
  private passEnd: number | undefined;
  private until: number | undefined;
  private wantsRestart = false;
  /** What is in the buffer may not be as the store has it any more. */
  private wantsReload = false;
  private isInFlight = false;
  /** There may be messages that no read has seen. */
  private isStale = true;
  /** When the last read began that came to the end of the stream. What is found after it was not there before. */
  private foundAll = -Infinity;

  constructor(private readonly term: LeaseTerm) {
    const { definition, parts } = term;
    const { readAhead } = parts.options;
    const block = Math.min(Math.max(readAhead, definition.emitterContext.size ?? 0), definition.lookAhead);
    const { buffer } = this;
    const owned = (this.owned = new OwnedMessages(() => parts.clock.now()));
    this.cursor = new StreamCursor(
      parts.store,
      definition.key,
      { messages: block, bytes: term.readAheadBytes },
      {
        get ownedCount() {
          return owned.size;
        },
        owns: (id) => owned.has(id),
        receive: (messages) => buffer.push(owned.adopt(messages, this.foundAll)),
        skipDamaged: (read) => owned.skipDamaged(read),
      },
    );
  }

  get isReading(): boolean {
    return this.isInFlight;
  }

  /** The strategy wants to see nothing, until this time at the most. */
  get isIdle(): boolean {
    return this.order === 'idle';
  }

  get idleUntil(): number | undefined {
    return this.until;
  }

  /** All that there is was read, in order of append: only new messages bring more. */
  get isExhausted(): boolean {
    return this.order === 'append' && !this.isInFlight && !this.mayHaveMore;
  }

  /** A restart waits for the read in flight: what is complete now is not what it is to find. */
  get isRestarting(): boolean {
    return this.wantsRestart;
  }

  /** Messages that a read may bring now; 0 if there is nothing to read, or no room for it. */
  get wanted(): number {
    return this.isIdle || !this.mayHaveMore || this.isFull ? 0 : this.room - this.buffer.length;
  }

  /** No more is read until something is taken out. */
  private get isFull(): boolean {
    return this.buffer.length >= this.room || this.buffer.bytes >= this.term.readAheadBytes;
  }

  private get mayHaveMore(): boolean {
    return this.isStale || !this.buffer.complete;
  }

  /** Messages have come: what was read last may not be all. */
  messagesArrived(): void {
    this.isStale = true;
  }

  /** Emits what is there now, ready or not: all of it has to be read first. */
  flush(): void {
    this.buffer.flushing = true;
    this.wantsRestart = true;
  }

  flushed(): void {
    this.buffer.flushing = false;
  }

  /** Reads again what is in the buffer, as soon as no read is in flight: it may have been cleared since. */
  reload(): void {
    this.wantsReload = true;
    this.wantsRestart = true;
  }

  /** Empties the buffer if a reload was asked for and no read is in flight. */
  reloadIfDue(): void {
    if (!this.wantsReload || this.isInFlight) return;
    this.wantsReload = false;
    this.forget();
  }

  /** Sets what the strategy is shown in addition to the messages. */
  show(now: number, monotonic: number): MessageBuffer<ReadMessage> {
    const { buffer } = this;
    buffer.now = now;
    buffer.monotonic = monotonic;
    buffer.saturated = this.isFull;
    return buffer;
  }

  /** Windows that could start now. Returns true if that is news for the strategy: there are some again. */
  setFreeWorkers(count: number): boolean {
    const { buffer } = this;
    const wasFree = buffer.workerFree;
    buffer.freeWorkers = count;
    return buffer.workerFree && !wasFree;
  }

  /** Takes messages out of the strategy's sight. */
  remove(messages: readonly ReadMessage[]): void {
    this.buffer.remove(messages);
  }

  /** Shows messages of windows to the strategy once more, before all others. */
  putBack(messages: readonly StoredMessage[]): void {
    this.buffer.putBack(this.owned.asRead(messages));
  }

  /** Turns to what the strategy wants to see. Not while a read is in flight. */
  follow(plan: ReadPlan): void {
    this.until = undefined;
    const restart = this.wantsRestart || plan.order !== this.order;
    this.wantsRestart = false;
    this.order = plan.order;
    switch (plan.order) {
      case 'idle':
        this.until = plan.until;
        return;
      case 'append':
        this.room = plan.room ?? this.term.definition.lookAhead;
        if (restart) this.restart();
        else if (this.isOlderThan(plan.maxAge)) this.isStale = true;
        return;
      case 'time': {
        this.room = this.term.definition.lookAhead;
        const end = plan.ranges[0]?.to;
        // The bounds of a pass move with the clock; one that has begun keeps those that it began with.
        if (!restart && (this.passEnd === end || !this.buffer.complete)) return;
        this.passEnd = end;
        // What was left in the buffer is read again, so that all of it is in order.
        this.forget();
        this.cursor.restartByTime(
          plan.ranges.map(({ from, to }) => ({
            ...(from === undefined ? {} : { from: new Date(from) }),
            ...(to === undefined ? {} : { to: new Date(to) }),
          })),
        );
      }
    }
  }

  /** Reads one block of at most `room` messages into the buffer. */
  async read(room: number): Promise<void> {
    this.isInFlight = true;
    try {
      await this.term.persist('read', () => this.readBlock(room));
    } finally {
      this.isInFlight = false;
      this.reportDamaged();
      if (!this.mayHaveMore) this.term.parts.caughtUp();
    }
  }

  /** A read for another purpose, which may run at the same time: the messages that are wanted and not owned yet; they are from now on. */
  async readAside(
    read: () => Promise<Block>,
    isWanted: (message: StoredMessage) => boolean,
  ): Promise<{ readonly block: Block; readonly fresh: readonly ReadMessage[] }> {
    return this.owned.during(async () => {
      const block = await read();
      this.owned.skipDamaged(block);
      return { block, fresh: this.owned.adopt(block.messages.filter(isWanted), this.foundAll) };
    });
  }

  private async readBlock(room: number): Promise<void> {
    this.isStale = false;
    const { clock } = this.term.parts;
    const began = { now: clock.now(), monotonic: clock.monotonic() };
    try {
      await this.owned.during(async () => {
        this.buffer.complete = await this.cursor.next(room);
      });
      if (!this.buffer.complete) return;
      this.buffer.readAt = began;
      if (!this.cursor.isByTime) this.foundAll = began.now;
    } catch (error) {
      this.isStale = true;
      throw error;
    }
  }

  private isOlderThan(age: number | undefined): boolean {
    const { readAt } = this.buffer;
    return age !== undefined && readAt !== undefined && this.term.parts.clock.monotonic() - readAt.monotonic >= age;
  }

  private restart(): void {
    this.cursor.restart();
    this.isStale = true;
    this.buffer.complete = false;
  }

  private forget(): void {
    this.owned.forget(this.buffer.messages);
    this.buffer.clear();
    // What was found before is found once more.
    this.foundAll = -Infinity;
    this.restart();
  }

  private reportDamaged(): void {
    const damaged = this.owned.takeDamaged();
    if (damaged.length === 0) return;
    const { definition, counters, parts } = this.term;
    counters.damaged += damaged.length;
    parts.log.error(
      `${definition.label}: skipped ${counted(damaged.length, 'message')} of '${definition.key.stream}' damaged in the store; nothing was ` +
        `removed. The first: ${damaged.slice(0, 5).join(', ')}`,
    );
  }
}
