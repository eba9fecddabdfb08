import { messageOf } from '../errors/minibatch.error.js';
import type { Activity } from '../internal/activity.js';
import { delay, type Clock } from '../internal/clock.js';
import { consumerId, type ConsumerKey, type StreamStore } from '../storage/stream-store.interface.js';
import type { EngineLog } from './emitter.interface.js';

/** With a change stream, polling is only the safety net; milliseconds. */
const WATCHED_POLL = 5_000;

/** A consumer that only new messages can make go on. */
export interface Hungry {
  readonly key: ConsumerKey;
  wake(): void;
}

/**
 * Notices messages that other processes appended: by the store's own watch where it has one, else by polling — all hungry
 * consumers in one command, often after activity and ever less often at rest.
 */
export class WakeUps {
  private readonly tokens = new Map<string, string>();
  private pause: number;
  private watched = false;
  private failing = false;
  private readonly stopped = new AbortController();
  private restartPause: (() => void) | undefined;

  constructor(
    private readonly store: StreamStore,
    private readonly clock: Clock,
    private readonly log: EngineLog,
    private readonly activity: Activity,
    private readonly hungry: () => readonly Hungry[],
    private readonly wakeStream: (stream: string) => void,
  ) {
    this.pause = store.polling.busy;
  }

  start(): void {
    void this.watch();
    void this.poll();
  }

  stop(): void {
    this.stopped.abort();
    this.restartPause?.();
  }

  /** Something has happened on a stream: look often again. */
  excite(): void {
    if (this.pause === this.store.polling.busy) return;
    this.pause = this.store.polling.busy;
    this.restartPause?.();
  }

  private async watch(): Promise<void> {
    try {
      this.watched = (await this.store.watch?.((stream) => this.wakeStream(stream), this.stopped.signal)) ?? false;
    } catch (error) {
      if (!this.stopped.signal.aborted) this.log.warn(`No change stream, polling instead: ${messageOf(error)}`);
    }
  }

  private async poll(): Promise<void> {
    while (!this.stopped.signal.aborted) {
      await this.rest();
      if (this.stopped.signal.aborted) return;
      await this.activity.track(() => this.look());
    }
  }

  private async rest(): Promise<void> {
    const rest = new AbortController();
    this.restartPause = () => rest.abort();
    await delay(this.clock, this.watched ? Math.max(this.pause, WATCHED_POLL) : this.pause, rest.signal);
    this.restartPause = undefined;
    // Cut short: the pause begins again with its new length, so that a busy stream does not make it poll without end.
    if (rest.signal.aborted) await delay(this.clock, this.pause, this.stopped.signal);
  }

  private async look(): Promise<void> {
    const hungry = this.hungry();
    if (hungry.length === 0) {
      this.pause = Math.min(this.pause * 2, this.store.polling.idle);
      return;
    }
    try {
      const tokens = await this.store.poll(hungry.map(({ key }) => key));
      let news = false;
      for (const [index, consumer] of hungry.entries()) {
        const id = consumerId(consumer.key);
        const token = tokens[index] ?? '';
        if (this.tokens.get(id) === token) continue;
        this.tokens.set(id, token);
        news = true;
        consumer.wake();
      }
      this.pause = news ? this.store.polling.busy : Math.min(this.pause * 2, this.store.polling.idle);
      this.failing = false;
    } catch (error) {
      if (!this.failing && !this.stopped.signal.aborted)
        this.log.warn(`Can't look for new messages, trying again: ${messageOf(error)}`);
      this.failing = true;
      this.pause = this.store.polling.idle;
    }
  }
}
