import { type Clock, delay } from '../../common/clock.js';
import { messageOf } from '../../errors/error-text.js';
import { ExecutorUnavailable } from '../../errors/executor-errors.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { Packages, RedisClient } from './packages.js';

/** What the one that uses a connection says of it. */
export interface LinkOptions {
  /** Of ioredis. */
  readonly connection: Readonly<Record<string, unknown>>;
  readonly settings: object;
}

/** Commands fail at once while Redis is away: windows wait for it, and not commands. */
const FAIL_FAST = { enableOfflineQueue: false, autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 };
/** Least time for an answer: a large window is on its way for a while. Milliseconds. */
const LEAST_TIME = 1_000;

/**
 * Of a connection that does not wait.
 *
 * @param lock in half of its time Redis must have answered: after that workers may lose their jobs; milliseconds
 */
export function impatient(lock: number): object {
  return { ...FAIL_FAST, enableAutoPipelining: true, commandTimeout: Math.max(lock / 2, LEAST_TIME) };
}

/** BullMQ's workers want their commands to wait. */
export const PATIENT = { maxRetriesPerRequest: null, enableOfflineQueue: true };

/**
 * How long each step of a shutdown waits for Redis; milliseconds. What it does not answer while it is away, it never answers, and a connection
 * that was about to be made again never says that it has ended.
 */
export const CLOSE_WAIT = 1_000;

/** What Redis answers, also from within a script, if it has `maxmemory` and drops nothing. */
const FULL = /\bOOM command not allowed\b/;
/** What ioredis says of `commandTimeout`. */
const TIMED_OUT = 'Command timed out';

/** A connection to Redis, whether it stands, and whether that Redis may be used. */
export class RedisLink {
  readonly client: RedisClient;
  private lastError: Error | undefined;
  /** Undefined: it has not been asked since the connection was made. */
  private policy: string | undefined;
  private backAt = Number.NEGATIVE_INFINITY;
  /** There has been a connection. */
  wasReady = false;
  private readonly readyListeners = new Set<() => void>();

  constructor(
    packages: Packages,
    private readonly clock: Clock,
    { connection, settings }: LinkOptions,
  ) {
    this.client = packages.client(connection, { retryStrategy: retryDelay, lazyConnect: false, ...settings });
    this.client.on('error', (error) => {
      this.lastError = error;
    });
    this.client.on('close', () => {
      this.policy = undefined;
    });
    this.client.on('ready', () => {
      if (this.wasReady) this.backAt = clock.monotonic();
      this.wasReady = true;
      for (const listener of this.readyListeners) listener();
    });
  }

  get isReady(): boolean {
    return this.client.status === 'ready';
  }

  /** Redis was away, or another one, within these milliseconds. */
  wasAway(within: number): boolean {
    return this.clock.monotonic() - this.backAt < within;
  }

  /** @throws ExecutorUnavailable if there is no connection within these milliseconds, MinibatchError `RedisMayEvict` */
  async check(patience: number): Promise<void> {
    if (!this.isReady && patience > 0) await this.ready(patience);
    if (!this.isReady) throw this.away(this.lastError);
    if (this.policy === undefined) {
      const info = await this.client.info('memory').catch((error: unknown) => {
        throw this.away(error);
      });
      this.policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1] ?? 'noeviction';
    }
    if (this.policy === 'noeviction') return;
    const { policy } = this;
    // Somebody may have put it right by the next time.
    this.policy = undefined;
    throw new MinibatchError(
      ErrorCode.RedisMayEvict,
      `bullmq: Redis has the maxmemory-policy '${policy}', by which it may drop windows and results when its memory is full: set ` +
        "maxmemory-policy to 'noeviction'",
      { details: { policy } },
    );
  }

  away(cause: unknown): ExecutorUnavailable {
    const text = cause === undefined ? '' : messageOf(cause);
    const what = FULL.test(text)
      ? 'Redis is full'
      : text === TIMED_OUT
        ? 'Redis does not answer'
        : "Redis can't be reached";
    return new ExecutorUnavailable(`bullmq: ${what}${text && `: ${text}`}`, { cause });
  }

  close(): void {
    this.client.disconnect();
  }

  private async ready(patience: number): Promise<void> {
    const over = new AbortController();
    const end = () => over.abort();
    this.readyListeners.add(end);
    try {
      await delay(this.clock, patience, over.signal);
    } finally {
      this.readyListeners.delete(end);
    }
  }
}

/** Milliseconds until the next try to connect. */
function retryDelay(times: number): number {
  return Math.min(50 * 2 ** Math.min(times, 10), 2_000);
}
