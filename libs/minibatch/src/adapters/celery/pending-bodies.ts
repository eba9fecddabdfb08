import { batchLength } from '../../common/batches.js';
import type { IncomingMessage } from './event-appender.js';

/** Messages and bytes of one append. */
const BATCH = { items: 1000, bytes: 4 * 1024 * 1024 };

/** What a body of the broker has become. */
export interface PendingBody {
  /** None if none of its events is wanted. */
  readonly messages: readonly IncomingMessage[];
  readonly bytes: number;
  /** Tells the broker that this and all bodies before it are safe, if it wants to know. */
  readonly acknowledge?: () => void;
}

/** Bodies that have come and wait for their turn; bounded. */
export class PendingBodies {
  private waiting: PendingBody[] = [];
  private bytes = 0;
  private messages = 0;
  private ended = false;
  private wake: () => void = () => undefined;

  constructor(
    private readonly mostMessages: number,
    private readonly mostBytes: number,
  ) {}

  /** Messages in them. */
  get size(): number {
    return this.messages;
  }

  /** False if there is no room for it. */
  add(body: PendingBody): boolean {
    if (this.ended || this.messages >= this.mostMessages || this.bytes >= this.mostBytes) return false;
    this.waiting.push(body);
    this.count(body, 1);
    this.wake();
    return true;
  }

  /** The next ones; waits until there are some. Empty when there are none left after `end()`. */
  async next(): Promise<readonly PendingBody[]> {
    while (this.waiting.length === 0 && !this.ended) {
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
    const length = batchLength(
      this.waiting,
      BATCH,
      ({ messages }) => messages.length,
      ({ bytes }) => bytes,
    );
    return this.takeOut(length);
  }

  /** All that are left. */
  rest(): readonly PendingBody[] {
    return this.takeOut(this.waiting.length);
  }

  /** They could not be stored: they are next again. */
  putBack(bodies: readonly PendingBody[]): void {
    this.waiting.unshift(...bodies);
    for (const body of bodies) this.count(body, 1);
  }

  /** No more is taken in. */
  end(): void {
    this.ended = true;
    this.wake();
  }

  private takeOut(length: number): readonly PendingBody[] {
    const taken = this.waiting.splice(0, length);
    for (const body of taken) this.count(body, -1);
    return taken;
  }

  private count({ messages, bytes }: PendingBody, sign: 1 | -1): void {
    this.messages += sign * messages.length;
    this.bytes += sign * bytes;
  }
}
