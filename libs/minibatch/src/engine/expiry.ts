import type { StoredMessage } from '../storage/stream-store.interface.js';
import type { LeaseTerm } from './lease-term.js';
import type { ReadMessage } from './owned-messages.js';
import type { PassScheduler } from './pass-scheduler.js';
import type { ReadAhead } from './read-ahead.js';
import { sweepPause } from './sweep-pause.js';
import type { WindowClaimer } from './window-claimer.js';
import { counted } from '../common/counted.js';

/**
 * Discards the messages of a consumer that are not wanted any more, since they are older than `maxAge`, or the stream was cleared. They
 * leave as windows without a handler: claimed and committed like any other, so a message that is claimed is never among them.
 *
 * The buffer is checked in every pass. What was not read, because the consumer is paused, waits or lags behind, is scanned for now and
 * then.
 */
export class Expiry {
  /** Clearings of the stream that are known. */
  private clearings = 0;
  /** Cleared messages that were not read have to be scanned for. */
  private scansForCleared = false;
  /** Monotonic time of the next scan; undefined if there is nothing to scan for. */
  private due: number | undefined;
  private isInFlight = false;
  /** Taken out of the buffer and not claimed yet. */
  private unwanted: ReadMessage[] = [];

  constructor(
    private readonly term: LeaseTerm,
    private readonly readAhead: ReadAhead,
    private readonly claimer: WindowClaimer,
    private readonly passes: PassScheduler,
  ) {
    if (this.maxAge !== undefined) this.due = term.parts.clock.monotonic();
  }

  private get maxAge(): number | undefined {
    return this.term.parts.retention(this.term.definition.key.stream)?.buffered;
  }

  get isExpiring(): boolean {
    return this.isInFlight;
  }

  /** Milliseconds until the next scan; undefined if there is none. */
  get wait(): number | undefined {
    return this.due === undefined ? undefined : Math.max(0, this.due - this.term.parts.clock.monotonic());
  }

  /** How often the stream was cleared. True if that is news. */
  setClearings(count: number): boolean {
    if (count <= this.clearings) return false;
    this.clearings = count;
    this.scansForCleared = true;
    this.due = this.term.parts.clock.monotonic();
    return true;
  }

  /** Discards what is to go, if there is any. */
  expire(): void {
    const scans = this.wait === 0;
    // Out of the strategy's sight at once, also while others are leaving.
    for (const message of this.takeBuffered()) this.unwanted.push(message);
    if (this.isInFlight || (!scans && this.unwanted.length === 0)) return;
    const { unwanted } = this;
    this.unwanted = [];
    this.isInFlight = true;
    this.passes.startTask(async () => {
      try {
        this.report(await this.discard(unwanted, scans));
      } finally {
        this.isInFlight = false;
      }
    });
  }

  /** Resolves with how many messages are on their way out. */
  private async discard(buffered: readonly ReadMessage[], scans: boolean): Promise<number> {
    let discarded = 0;
    const leave = async (messages: readonly ReadMessage[]) => {
      await this.claimer.claimUnhandled(messages);
      this.term.counters.expired += messages.length;
      discarded += messages.length;
      this.passes.schedule();
    };
    if (buffered.length > 0) await leave(buffered);
    if (scans) for await (const page of this.unread()) await leave(page);
    return discarded;
  }

  private report(discarded: number): void {
    if (discarded === 0) return;
    const { definition, parts } = this.term;
    parts.log.log(
      `${definition.label}: discarded ${counted(discarded, 'message')} of '${definition.key.stream}' without handling: older than ` +
        'maxAge, or the stream was cleared',
    );
  }

  /** Takes what is too old, or cleared, out of the buffer. */
  private takeBuffered(): readonly ReadMessage[] {
    const limit = this.limit();
    const { buffer, owned } = this.readAhead;
    const { first } = buffer;
    const hasCleared = owned.takeCleared();
    if (first === undefined) return NONE;
    // In order of append or of time, so the first is about the oldest; the rest is checked when the unread is.
    if (!hasCleared && (limit === undefined || (!isUnwanted(first, limit) && this.wait !== 0))) return NONE;
    const unwanted = buffer.messages.filter((message) => isUnwanted(message, limit));
    this.readAhead.remove(unwanted);
    return unwanted;
  }

  /** Scans for what is too old, or cleared, and was not read, page by page; it is owned from then on. */
  private async *unread(): AsyncGenerator<readonly ReadMessage[], void, undefined> {
    const { term, readAhead, maxAge } = this;
    const { store, clock, options } = term.parts;
    const { key } = term.definition;
    const limit = this.limit();
    const pause = maxAge && sweepPause(maxAge);
    this.due = pause && clock.monotonic() + pause;
    // There is an index for the order of time, but a clearing does not go by it.
    const byAge = !this.scansForCleared;
    this.scansForCleared = false;
    if (byAge && limit === undefined) return;
    const limits = { messages: options.readAhead, bytes: options.readAheadBytes };
    let last: StoredMessage | undefined;
    for (;;) {
      const after = last;
      const read = () =>
        byAge && limit !== undefined
          ? store.fetchByTime(key, { to: new Date(limit) }, after, limits)
          : store.fetch(key, after?.id, { ...limits, aside: true });
      const { block, fresh } = await term.persist('scan for old messages', () =>
        readAhead.readAside(read, (message) => isUnwanted(message, limit)),
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

const NONE: readonly ReadMessage[] = [];

/** @param limit what was created before is too old; undefined if nothing is */
function isUnwanted(
  { created, redriven, cleared }: Pick<StoredMessage, 'created' | 'redriven' | 'cleared'>,
  limit: number | undefined,
): boolean {
  return !redriven && (cleared === true || (limit !== undefined && created.getTime() < limit));
}
