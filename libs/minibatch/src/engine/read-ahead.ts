import type { MessageBuffer } from '../windows/message-buffer.js';
import type { ReadPlan } from '../windows/window-emitter.js';
import type { Reader } from './reader.js';
import type { LeaseTerm } from './lease-term.js';

/**
 * What is read next, and how much of it: turns the reader to the part of the stream that the strategy wants to see, and keeps the
 * buffer within its bounds. One read at a time.
 */
export class ReadAhead {
  private order: ReadPlan['order'] = 'idle';
  /** Unclaimed messages that the strategy may be shown. */
  private room = 0;
  /** End of the pass in order of time. */
  private passEnd: number | undefined;
  private until: number | undefined;
  private wantsRestart = false;
  private isUnderWay = false;

  constructor(
    private readonly term: LeaseTerm,
    private readonly reader: Reader,
    private readonly buffer: MessageBuffer,
  ) {}

  get isReading(): boolean {
    return this.isUnderWay;
  }

  /** The strategy wants to see nothing, until this time at the most. */
  get isIdle(): boolean {
    return this.order === 'idle';
  }

  get idleUntil(): number | undefined {
    return this.until;
  }

  /** All that there is was read, in order of append: only new messages make it go on. */
  get isExhausted(): boolean {
    return this.order === 'append' && !this.isUnderWay && !this.reader.unread;
  }

  /** A restart waits for the read under way: what is complete now is not what it is to find. */
  get isTurning(): boolean {
    return this.wantsRestart;
  }

  /** No more is read until something is taken out. */
  get isFull(): boolean {
    return this.buffer.length >= this.room || this.buffer.bytes >= this.term.parts.options.readAheadBytes;
  }

  /** Messages that a read may bring now; 0 if there is nothing to read, or no room for it. */
  get wanted(): number {
    return this.isIdle || !this.reader.unread || this.isFull ? 0 : this.room - this.buffer.length;
  }

  /** From the start again, as soon as no read is under way. */
  restart(): void {
    this.wantsRestart = true;
  }

  /** Not while a read is under way. */
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
        if (restart) this.reader.restart();
        return;
      case 'time': {
        this.room = this.term.definition.lookAhead;
        const end = plan.ranges[0]?.to;
        // A pass is frozen while it goes on: its bounds move with the clock.
        if (!restart && (this.passEnd === end || !this.buffer.complete)) return;
        this.passEnd = end;
        this.reader.restartByTime(
          plan.ranges.map(({ from, to }) => ({
            ...(from === undefined ? {} : { from: new Date(from) }),
            ...(to === undefined ? {} : { to: new Date(to) }),
          })),
        );
      }
    }
  }

  async read(messages: number): Promise<void> {
    this.isUnderWay = true;
    try {
      await this.term.persist('read', () => this.reader.read(messages));
    } finally {
      this.isUnderWay = false;
      this.tellDamaged();
      if (!this.reader.unread) this.term.parts.caughtUp();
    }
  }

  private tellDamaged(): void {
    const damaged = this.reader.takeDamaged();
    if (damaged.length === 0) return;
    const { definition, counters, parts } = this.term;
    counters.damaged += damaged.length;
    parts.log.error(
      `${definition.label}: ${damaged.length} messages of '${definition.key.stream}' are damaged in the store and are passed over; they ` +
        `stay where they are. The first: ${damaged.slice(0, 5).join(', ')}`,
    );
  }
}
