import { BACKGROUND_CLOCK, delay } from '../../common/clock.js';
import type { PostgresClient } from './pool.js';

/** What is used of a client of `pg` beyond its queries; absent from other drivers, whose connections are left alone. */
interface Connected {
  /** The number of the server's process for it. */
  readonly processID?: number | null;
  readonly connection?: { readonly stream?: { destroy(error: Error): void } };
}

export interface SilenceParts {
  /** How long a statement may go unanswered before the server is asked about it; milliseconds. */
  readonly patience: number;
  /**
   * Asks the server, on a connection of its own and within the patience, which of its processes are carrying out a statement. Undefined: it is
   * there, and can't say. Rejects if it does not answer.
   */
  readonly busy: (processes: readonly number[]) => Promise<ReadonlySet<number> | undefined>;
}

/**
 * Notices connections that will never be answered, and breaks them: the network has gone without a word, a router has forgotten the
 * connection, or the server is frozen. The operating system waits for a quarter of an hour before it says so. A statement that takes long, or waits for a lock, is
 * told apart: the server answers on another connection, and says that it is at work on it.
 */
export class Silence {
  /** When the last statement was sent on each connection that is in use; monotonic. */
  private readonly waiting = new Map<PostgresClient, number>();
  /** One timer outlives many statements. */
  private isArmed = false;
  private isClosed = false;
  /** Servers know nothing of a virtual clock. */
  private readonly clock = BACKGROUND_CLOCK;

  constructor(private readonly parts: SilenceParts) {}

  /** A statement is sent on the connection; another one may follow. */
  sent(client: PostgresClient): void {
    this.waiting.set(client, this.clock.monotonic());
    if (!this.isArmed) this.arm(this.parts.patience);
  }

  /** All statements on the connection have been answered, or have failed. */
  over(client: PostgresClient): void {
    this.waiting.delete(client);
  }

  close(): void {
    this.isClosed = true;
  }

  private arm(wait: number): void {
    this.isArmed = true;
    this.clock.schedule(wait, () => void this.look());
  }

  private async look(): Promise<void> {
    const { patience } = this.parts;
    if (this.isClosed || this.waiting.size === 0) {
      this.isArmed = false;
      return;
    }
    const now = this.clock.monotonic();
    const late = [...this.waiting].filter(([, since]) => since + patience <= now);
    if (late.length > 0) await this.examine(late);
    const rest = Math.min(...this.waiting.values()) + patience - this.clock.monotonic();
    // Those that the server is at work on are asked about once more.
    this.arm(rest > 0 && rest <= patience ? rest : patience);
  }

  private async examine(late: readonly (readonly [PostgresClient, number])[]): Promise<void> {
    const isDead = await this.judge(late.map(([client]) => processOf(client)));
    // An answer that has arrived meanwhile is read first.
    await delay(this.clock, 0);
    const ms = Math.round(this.parts.patience);
    const error = new Error(`connection terminated: the server has not answered on it for ${ms} ms`);
    for (const [client, since] of late) {
      if (this.waiting.get(client) !== since || !isDead(processOf(client))) continue;
      (client as Connected).connection?.stream?.destroy(error);
    }
  }

  private async judge(processes: readonly number[]): Promise<(process: number) => boolean> {
    try {
      const busy = await this.parts.busy(processes);
      return (process) => busy !== undefined && !busy.has(process);
    } catch {
      // It answers nothing at all.
      return () => true;
    }
  }
}

function processOf(client: PostgresClient): number {
  return (client as Connected).processID ?? 0;
}
