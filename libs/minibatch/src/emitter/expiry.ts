import type { StoredMessage } from '../storage/stream-store.interface.js';
import type { BufferedMessage } from '../windows/message.js';
import type { MessageBuffer } from '../windows/message-buffer.js';
import type { Reader, ReadMessage } from './reader.js';
import { sweepPause } from './sweep-pause.js';
import type { Tenure } from './tenure.js';

/**
 * Finds the messages of a consumer that nobody wants any more, since they are older than `maxAge`, or the stream was cleared. They
 * leave as windows without a handler: claimed and committed like any other, so a message that is claimed is never among them.
 *
 * What was read is looked through at every turn; what was not, because the consumer is paused, waits or lags behind, is looked for now
 * and then.
 */
export class Expiry {
  private cleared: number | undefined;
  /** Monotonic time of the next look; undefined if there is nothing to look for. */
  private due: number | undefined;

  constructor(
    private readonly tenure: Tenure,
    private readonly buffer: MessageBuffer,
    private readonly reader: Reader,
  ) {
    if (this.maxAge !== undefined) this.due = tenure.parts.clock.monotonic();
  }

  private get maxAge(): number | undefined {
    return this.tenure.parts.retention(this.tenure.definition.key.stream)?.buffered;
  }

  /** Milliseconds until the next look; undefined if there is none. */
  get wait(): number | undefined {
    return this.due === undefined ? undefined : Math.max(0, this.due - this.tenure.parts.clock.monotonic());
  }

  /** The stream was cleared. True if that is news. */
  setCleared(time: Date | undefined): boolean {
    if (time === undefined || time.getTime() <= (this.cleared ?? Number.NEGATIVE_INFINITY)) return false;
    this.cleared = time.getTime();
    this.due = this.tenure.parts.clock.monotonic();
    return true;
  }

  /** Takes what is too old out of the buffer. */
  buffered(): readonly BufferedMessage[] {
    const limit = this.limit();
    const { first } = this.buffer;
    // In order of append or of time, so the first is about the oldest; the rest is looked at when the unread is.
    if (limit === undefined || first === undefined || (!isOld(first, limit) && this.wait !== 0)) return [];
    const old = this.buffer.messages.filter((message) => isOld(message, limit));
    this.buffer.remove(old);
    return old;
  }

  /** Looks for what is too old and was not read, page by page; it is owned by the reader from then on. */
  async *unread(): AsyncGenerator<readonly ReadMessage[], void, undefined> {
    const { tenure, reader, maxAge } = this;
    const { store, clock, options } = tenure.parts;
    const { key } = tenure.definition;
    const limit = this.limit();
    const pause = maxAge && sweepPause(maxAge);
    this.due = pause && clock.monotonic() + pause;
    if (limit === undefined) return;
    const limits = { messages: options.readAhead, bytes: options.readAheadBytes };
    let last: StoredMessage | undefined;
    for (;;) {
      const after = last;
      // In order of time there is an index for it, where there is an age. A stream is cleared once in a while, without one.
      const read = () =>
        maxAge === undefined
          ? store.fetch(key, after?.id, limits)
          : store.fetchByTime(key, { to: new Date(limit) }, after, limits);
      const { block, fresh } = await tenure.persist('look for old messages', () =>
        reader.beside(read, (message) => isOld(message, limit)),
      );
      if (fresh.length > 0) yield fresh;
      last = block.messages.at(-1);
      if (!block.full || last === undefined || tenure.isClosing) return;
    }
  }

  /** Milliseconds since the epoch: what was created before is too old. */
  private limit(): number | undefined {
    const { maxAge, cleared } = this;
    const aged = maxAge === undefined ? undefined : this.tenure.parts.clock.now() - maxAge;
    if (aged === undefined) return cleared;
    return cleared === undefined ? aged : Math.max(aged, cleared);
  }
}

export function isOld(
  { created, redriven }: { readonly created: Date; readonly redriven?: boolean },
  limit: number,
): boolean {
  return created.getTime() < limit && !redriven;
}
