import { createHash, randomBytes } from 'node:crypto';
import { backoff } from '../../common/backoff.js';
import { BACKGROUND_CLOCK, delay, SYSTEM_CLOCK } from '../../common/clock.js';
import { asError } from '../../errors/error-text.js';
import type { StreamWatcher } from '../stream-store.interface.js';
import type { Database } from './database.js';
import { quoted } from './schema.js';
import { statement } from './sql.js';
import { asStoreError } from './store-errors.js';

/** The server takes a lock on the whole database to commit a notification: each stream sends one in this time; milliseconds. */
const PAUSE = 50;
/** Pauses between attempts to listen. */
const RELISTEN = { base: 100, max: 30_000, jitter: 0.3 };
/** Characters of an identifier. */
const LONGEST_NAME = 63;

/** Its values: the channel, and the payloads. */
export const NOTIFYING = 'select pg_notify($1::text, name) from unnest($2::text[]) u(name)';
const NOTIFY = statement(NOTIFYING);

/** Tells other processes of messages, and hears of theirs: by LISTEN and NOTIFY. */
export class Notifications {
  readonly channel: string;
  /** Processes do not wake for what they have appended themselves: the engine knows of it. */
  private readonly origin = randomBytes(6).toString('hex');
  private readonly sent = new Map<string, number>();
  private readonly waiting = new Set<string>();
  /** They go with the next statement: of many streams at once, one statement at a time tells of all that came meanwhile. */
  private readonly due = new Set<string>();
  private isSending = false;
  private cancel: (() => void) | undefined;

  constructor(
    private readonly database: Database,
    private readonly enabled: boolean,
  ) {
    const name = `minibatch_${database.options.schema}`;
    const isShort = Buffer.byteLength(name) <= LONGEST_NAME;
    this.channel = isShort ? name : `minibatch_${createHash('sha256').update(name).digest('hex').slice(0, 40)}`;
  }

  close(): void {
    this.cancel?.();
    this.cancel = undefined;
    this.waiting.clear();
    this.due.clear();
  }

  /** Does not wait, and does not fail: consumers look for messages now and then, too. */
  tell(streams: Iterable<string>): void {
    if (!this.enabled) return;
    const now = SYSTEM_CLOCK.monotonic();
    const due: string[] = [];
    for (const stream of streams) {
      if (this.waiting.has(stream)) continue;
      if (now - (this.sent.get(stream) ?? Number.NEGATIVE_INFINITY) >= PAUSE) due.push(stream);
      else this.waiting.add(stream);
    }
    if (due.length > 0) this.send(due);
    if (this.waiting.size > 0) this.cancel ??= BACKGROUND_CLOCK.schedule(PAUSE, () => this.sendWaiting());
  }

  /** For the transaction of an application, which tells when it commits. */
  payloadOf(stream: string): string | undefined {
    return this.enabled ? `:${stream}` : undefined;
  }

  private sendWaiting(): void {
    this.cancel = undefined;
    const streams = [...this.waiting];
    this.waiting.clear();
    if (streams.length > 0) this.send(streams);
  }

  private send(streams: readonly string[]): void {
    const now = SYSTEM_CLOCK.monotonic();
    if (this.sent.size > 10_000) this.sent.clear();
    for (const stream of streams) {
      this.sent.set(stream, now);
      this.due.add(stream);
    }
    if (!this.isSending) void this.sendDue();
  }

  private async sendDue(): Promise<void> {
    this.isSending = true;
    while (this.due.size > 0) {
      const payloads = [...this.due].map((stream) => `${this.origin}:${stream}`);
      this.due.clear();
      await this.database.once(NOTIFY, [this.channel, payloads]).catch(() => undefined);
    }
    this.isSending = false;
  }

  /** Resolves when the signal aborts, or at once if notifications are off. */
  async watch(streams: readonly string[], watcher: StreamWatcher, signal: AbortSignal): Promise<void> {
    if (!this.enabled) return;
    for (let failures = 0; !signal.aborted;) {
      try {
        await this.listen(new Set(streams), watcher, signal, () => (failures = 0));
      } catch (error) {
        if (signal.aborted) return;
        watcher.failed(asStoreError('listen for new messages', error));
        failures += 1;
        await delay(BACKGROUND_CLOCK, backoff(RELISTEN, failures), signal);
      }
    }
  }

  private async listen(
    streams: ReadonlySet<string>,
    watcher: StreamWatcher,
    signal: AbortSignal,
    started: () => void,
  ): Promise<void> {
    const { client, release } = await this.database.connect();
    const hear = (notification?: unknown) => {
      const payload = payloadOf(notification);
      const [origin] = payload.split(':', 1);
      const stream = payload.slice((origin?.length ?? 0) + 1);
      if (origin !== this.origin && streams.has(stream)) watcher.wake(stream);
    };
    client.on('notification', hear);
    const ended = new AbortController();
    let broken: Error | undefined;
    const fail = (error?: unknown) => {
      broken ??= error === undefined ? new Error('the connection was closed') : asError(error);
      ended.abort();
    };
    client.on('error', fail);
    client.on('end', fail);
    try {
      await client.query(`listen ${quoted(this.channel)}`);
      started();
      watcher.started();
      // Messages may have come before it listened.
      for (const stream of streams) watcher.wake(stream);
      await untilAborted(AbortSignal.any([signal, ended.signal]));
      if (broken !== undefined) throw broken;
      await client.query(`unlisten ${quoted(this.channel)}`);
    } finally {
      client.off('notification', hear);
      client.off('end', fail);
      client.off('error', fail);
      release(broken !== undefined);
    }
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function payloadOf(notification: unknown): string {
  const isIt = typeof notification === 'object' && notification !== null && 'payload' in notification;
  return isIt && typeof notification.payload === 'string' ? notification.payload : '';
}
