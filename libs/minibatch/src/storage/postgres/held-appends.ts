import { BACKGROUND_CLOCK, delay } from '../../common/clock.js';
import { isLockTimeout } from './store-errors.js';

/** How long a message waits on a connection at a time, and how long the connection is free for others after that; milliseconds. */
const WAIT = 50;
const PAUSE = 50;
/** Part of the pool that may wait at a time, and the most. */
const SHARE = 3;
const MOST = 4;

interface Held {
  attempt(wait: number): Promise<void>;
  fail(error: unknown): void;
}

/** The store was closed before the other transaction ended; the message is not stored. */
export class ClosedWhileHeld extends Error {
  constructor() {
    super('the store was closed while a transaction that has used the same dedupe id was still open');
  }
}

/**
 * Appends that another's open transaction holds up. The server makes a statement wait on its connection, and any number of them may have
 * to. So they take turns on a few connections: each waits for a moment, and goes to the end of the queue if the transaction is still open.
 */
export class HeldAppends {
  private readonly queue: Held[] = [];
  private readonly closing = new AbortController();
  private readonly most: number;
  private working = 0;

  /** @param connections of the pool, if known */
  constructor(connections: number | undefined) {
    this.most = Math.max(1, Math.min(MOST, Math.floor((connections ?? SHARE) / SHARE)));
  }

  /**
   * @param attempt rejects with a lock timeout after `wait` milliseconds
   * @throws ClosedWhileHeld, or what `attempt` fails with otherwise
   */
  run<R>(attempt: (wait: number) => Promise<R>): Promise<R> {
    return new Promise((resolve, fail) => {
      this.queue.push({ attempt: async (wait) => resolve(await attempt(wait)), fail });
      if (this.working < this.most) void this.work();
    });
  }

  close(): void {
    this.closing.abort();
    for (const held of this.queue.splice(0)) held.fail(new ClosedWhileHeld());
  }

  private async work(): Promise<void> {
    this.working += 1;
    for (let held = this.queue.shift(); held !== undefined; held = this.queue.shift()) {
      if (await this.isOver(held)) continue;
      if (this.closing.signal.aborted) held.fail(new ClosedWhileHeld());
      else this.queue.push(held);
      await delay(BACKGROUND_CLOCK, PAUSE, this.closing.signal);
    }
    this.working -= 1;
  }

  private async isOver(held: Held): Promise<boolean> {
    try {
      await held.attempt(WAIT);
      return true;
    } catch (error) {
      if (isLockTimeout(error)) return false;
      held.fail(error);
      return true;
    }
  }
}
