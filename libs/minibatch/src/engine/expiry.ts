import type { StoredMessage } from '../storage/stream-store.interface.js';
import type { BufferedMessage } from '../windows/message.js';
import type { MessageBuffer } from '../windows/message-buffer.js';
import type { Reader, ReadMessage } from './reader.js';
import { sweepPause } from './sweep-pause.js';
import type { LeaseTerm } from './lease-term.js';

/**
 * Finds the messages of a consumer that nobody wants any more, since they are older than `maxAge`, or the stream was cleared. They
 * leave as windows without a handler: claimed and committed like any other, so a message that is claimed is never among them.
 *
 * What was read is looked through at every turn; what was not, because the consumer is paused, waits or lags behind, is looked for now
 * and then.
 */
export class Expiry {
  /** Clearings of the stream that are known. */
  private clearings = 0;
  /** Cleared messages that were not read have to be looked for. */
  private looksForCleared = false;
  /** Monotonic time of the next look; undefined if there is nothing to look for. */
  private due: number | undefined;

  constructor(
    private readonly term: LeaseTerm,
    private readonly buffer: MessageBuffer,
    private readonly reader: Reader,
  ) {
    if (this.maxAge !== undefined) this.due = term.parts.clock.monotonic();
  }

  private get maxAge(): number | undefined {
    return this.term.parts.retention(this.term.definition.key.stream)?.buffered;
  }

  /** Milliseconds until the next look; undefined if there is none. */
  get wait(): number | undefined {
    return this.due === undefined ? undefined : Math.max(0, this.due - this.term.parts.clock.monotonic());
  }

  /** How often the stream was cleared. True if that is news. */
  setClearings(count: number): boolean {
    if (count <= this.clearings) return false;
    this.clearings = count;
    this.looksForCleared = true;
    this.due = this.term.parts.clock.monotonic();
    return true;
  }

  /** Takes what is too old, or cleared, out of the buffer. */
  buffered(): readonly BufferedMessage[] {
    const limit = this.limit();
    const { first } = this.buffer;
    const hasCleared = this.reader.takeReadCleared();
    if (first === undefined) return [];
    // In order of append or of time, so the first is about the oldest; the rest is looked at when the unread is.
    if (!hasCleared && (limit === undefined || (!isUnwanted(first, limit) && this.wait !== 0))) return [];
    const unwanted = this.buffer.messages.filter((message) => isUnwanted(message, limit));
    this.buffer.remove(unwanted);
    return unwanted;
  }

  /** Looks for what is too old, or cleared, and was not read, page by page; it is owned by the reader from then on. */
  async *unread(): AsyncGenerator<readonly ReadMessage[], void, undefined> {
    const { term, reader, maxAge } = this;
    const { store, clock, options } = term.parts;
    const { key } = term.definition;
    const limit = this.limit();
    const pause = maxAge && sweepPause(maxAge);
    this.due = pause && clock.monotonic() + pause;
    // There is an index for the order of time, but a clearing does not go by it.
    const byAge = !this.looksForCleared;
    this.looksForCleared = false;
    if (byAge && limit === undefined) return;
    const limits = { messages: options.readAhead, bytes: options.readAheadBytes };
    let last: StoredMessage | undefined;
    for (;;) {
      const after = last;
      const read = () =>
        byAge && limit !== undefined
          ? store.fetchByTime(key, { to: new Date(limit) }, after, limits)
          : store.fetch(key, after?.id, limits);
      const { block, fresh } = await term.persist('look for old messages', () =>
        reader.beside(read, (message) => isUnwanted(message, limit)),
      );
      if (fresh.length > 0) yield fresh;
      last = block.messages.at(-1);
      if (!block.full || last === undefined || term.isClosing) return;
    }
  }

  /** Milliseconds since the epoch: what was created before is too old. */
  private limit(): number | undefined {
    const { maxAge } = this;
    return maxAge === undefined ? undefined : this.term.parts.ages.limit(maxAge);
  }
}

/** @param limit what was created before is too old; undefined if nothing is */
function isUnwanted(
  { created, redriven, cleared }: Pick<StoredMessage, 'created' | 'redriven' | 'cleared'>,
  limit: number | undefined,
): boolean {
  return !redriven && (cleared === true || (limit !== undefined && created.getTime() < limit));
}
