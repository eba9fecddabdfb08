import { unlessAborted } from '../../common/abort.js';
import { worthALine } from '../../common/worth-a-line.js';
import type { DecodedBody } from './event-body.js';
import type { EventAppender } from './event-appender.js';
import type { FeedContext } from './feed-context.js';
import { PendingBodies, type PendingBody } from './pending-bodies.js';
import { counted } from '../../common/counted.js';

/** What an append in flight gets when a source is told to stop; after a second the source is abandoned. */
const GRACE = 400;

/** Bytes of bodies that wait for the stream. */
const MOST_BYTES = 64 * 1024 * 1024;

/** Where a connection hands over what it gets. */
export interface ConnectionListener {
  receive(body: DecodedBody, bytes: number, acknowledge?: () => void): void;
  /** The connection is lost, and not to be had again without a new start. */
  fail(error: Error): void;
}

export interface BrokerConnection {
  /** What was not acknowledged is redelivered. */
  readonly durable: boolean;
  /** Never rejects. */
  close(): Promise<void>;
}

/** @throws MinibatchError `SourceFailed` */
export type Connect = (listener: ConnectionListener, signal: AbortSignal) => Promise<BrokerConnection>;

/**
 * Events on their way from a broker to a stream. They are acknowledged when they are stored.
 *
 * ```text
 * connect ─▶ run ─▶ run …   an append failed: run rejects, the connection stays open and keeps receiving, since what it got may be
 *             │             nowhere else; the next run begins with what could not be stored
 *             ├─▶ over      the connection was lost: what has come is stored, then run rejects
 *             └─▶ over      the signal aborted: what has come is stored as far as there is time
 * ```
 */
export class EventFeed {
  private readonly pending: PendingBodies;
  private connection: BrokerConnection | undefined;
  private failure: Error | undefined;
  private running = false;
  private readonly stop = () => {
    this.pending.end();
    // Otherwise `run` does it.
    if (!this.running) void this.finish();
  };
  /** A new one has to be made. */
  over = false;

  constructor(
    private readonly context: FeedContext,
    private readonly connect: Connect,
    private readonly appender: EventAppender,
    private readonly signal: AbortSignal,
    private readonly maxPending: number,
  ) {
    this.pending = new PendingBodies(maxPending, MOST_BYTES);
    signal.addEventListener('abort', this.stop, { once: true });
  }

  /** Resolves when the signal aborted. @throws MinibatchError `SourceFailed`, and what an append was rejected with */
  async run(): Promise<void> {
    const { signal } = this;
    this.running = true;
    try {
      if (!signal.aborted) await this.open();
      while (!signal.aborted) {
        const bodies = await this.pending.next();
        if (bodies.length === 0) break;
        await this.store(bodies);
      }
      if (signal.aborted) await this.store(this.pending.rest());
      this.over = true;
    } finally {
      this.running = false;
      if (this.over || signal.aborted) await this.finish();
    }
    if (this.failure && !signal.aborted) throw this.failure;
  }

  private async open(): Promise<void> {
    if (this.connection) return;
    const listener: ConnectionListener = {
      receive: (body, bytes, acknowledge) => {
        const messages = this.appender.take(body);
        const added = this.pending.add({ messages, bytes, ...(acknowledge ? { acknowledge } : {}) });
        if (!added)
          this.dropped(messages.length, `the stream is behind by ${counted(this.maxPending, 'event')} or more`);
      },
      fail: (error) => {
        this.failure ??= error;
        this.pending.end();
      },
    };
    try {
      const connection = await unlessAborted(this.connect(listener, this.signal), this.signal);
      this.connection = connection;
    } catch (error) {
      this.over = true;
      throw error;
    }
  }

  private async store(bodies: readonly PendingBody[]): Promise<void> {
    const grace = { clock: this.context.clock, ms: GRACE };
    const append = this.appender.append(bodies.flatMap(({ messages }) => messages)).then(() => true);
    try {
      if (await unlessAborted(append, this.signal, grace)) bodies.at(-1)?.acknowledge?.();
      else this.dropped(countOf(bodies), 'the source was stopped before the stream took them');
    } catch (error) {
      this.pending.putBack(bodies);
      throw error;
    }
  }

  private async finish(): Promise<void> {
    this.over = true;
    this.signal.removeEventListener('abort', this.stop);
    this.dropped(countOf(this.pending.rest()), 'the stream did not take them before the source was stopped');
    await this.connection?.close();
  }

  private dropped(events: number, why: string): void {
    // What stays in a queue is redelivered.
    if (events === 0 || this.connection?.durable === true) return;
    const { where, counters, log } = this.context;
    const before = counters.dropped;
    counters.dropped += events;
    const crossed = Math.floor(before / 1000) < Math.floor(counters.dropped / 1000);
    if (!worthALine(counters.dropped) && !crossed) return;
    log?.error(`${where}: events are dropped (${counters.dropped} so far): ${why}`);
  }
}

function countOf(bodies: readonly PendingBody[]): number {
  return bodies.reduce((sum, { messages }) => sum + messages.length, 0);
}
