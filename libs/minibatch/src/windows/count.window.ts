import { requireWhole } from './emitter-failure.js';
import type { BufferedMessage } from './message.js';
import { type EmitterContext, type MessageView, type ReadPlan, WindowEmitter } from './window-emitter.js';

/** Messages held for small windows: many are cut out of one read. Windows in flight also bound the read-ahead. */
const ROOM = 10_000;

/**
 * Windows of `size` messages, as soon as there are enough, in the order in which they were read.
 *
 * With `interval` no message waits longer than that for a free worker: what is there `interval` after the first of them was
 * appended is emitted. Where the clock of its producer is wrong, what this process has seen of the stream bounds it. The wait counts from that first message and is never restarted by a later one. While all workers are
 * busy, a window that is due waits for the first of them and keeps filling. Without `interval` the tail waits for a `flush`.
 *
 * @example
 * ```ts
 * @Streaming('flights', { size: 100, interval: '2s' })
 * ```
 */
export class CountWindow<T = unknown> extends WindowEmitter<T> {
  /** Messages of a window. */
  protected size = 1;
  /** Longest wait in milliseconds; undefined: unlimited. */
  protected interval: number | undefined;
  private waiting: { readonly id: string; readonly since: number } | undefined;

  override init(context: EmitterContext): void | Promise<void> {
    this.size = requireWhole(this, context, 'size', 'a whole number of messages from 1');
    this.interval =
      context.interval === undefined ? undefined : requireWhole(this, context, 'interval', 'whole milliseconds from 1');
    this.waiting = undefined;
  }

  override observe(view: MessageView<T>): void {
    const { first } = view;
    // Full windows need no deadline.
    if (this.interval === undefined || first === undefined || view.length >= this.size) return;
    const since = this.since(first, view.now);
    if (this.waiting?.id !== first.id || this.waiting.since !== since) this.waiting = { id: first.id, since };
  }

  windowReady(view: MessageView<T>): boolean {
    if (view.length >= this.size) return true;
    if (view.length === 0) return false;
    // No more will be read before something is taken: a limit of bytes is reached before the size.
    if (view.saturated) return true;
    return view.complete && (view.flushing || (view.workerFree && view.now >= (this.deadline(view) ?? Infinity)));
  }

  query(view: MessageView<T>): readonly BufferedMessage<T>[] {
    return view.take(this.size);
  }

  override nextCheck(view: MessageView<T>): number | undefined {
    const deadline = this.deadline(view);
    return view.workerFree ? deadline : undefined;
  }

  override reads(_now: number, _flushing?: boolean): ReadPlan {
    return { order: 'append', room: Math.max(this.size, ROOM) };
  }

  private deadline({ first, now }: MessageView<T>): number | undefined {
    return this.interval === undefined || first === undefined ? undefined : this.since(first, now) + this.interval;
  }

  /** `created` may come from a clock that is ahead of ours or behind, and ours may be set back while the message waits. */
  private since(first: BufferedMessage<T>, now: number): number {
    const known = this.waiting?.id === first.id ? this.waiting.since : Infinity;
    const appended = Math.max(first.created.getTime(), first.notBefore ?? -Infinity);
    return Math.min(appended, first.seen, now, known);
  }
}
