import type { Document } from 'bson';
import { unlessAborted } from '../../common/abort.js';
import { SYSTEM_CLOCK } from '../../common/clock.js';
import type { Source, SourceTarget } from '../../sources/source.interface.js';
import { MessageProblems } from '../message-problems.js';
import { newCounters, type SourceCounters } from '../source-counters.js';
import { CollectionFollower } from './collection-follower.js';
import { type CollectionSourceOptions, type ResolvedReading, resolveReading } from './collection-source.options.js';
import { DocumentAppender, nameOfDocument } from './document-appender.js';

/**
 * Feeds a stream with the documents of a MongoDB collection: those that are there, then those that are inserted.
 *
 * By the server's change stream where it has one, otherwise by a cursor on a field that grows, with a look-back for the ids of other
 * writers that turn up late. The position is stored with the messages or after them, so nothing is skipped; what is read again
 * after a crash has the same dedupe ids and is ignored for as long as the stream remembers them. The ids begin with the source's name:
 * two sources may read collections of one name, and a source that is attached under another name reads the collection again.
 *
 * Each insert that a change stream tells of is a message, also of a document that was deleted and inserted again under the same `_id`. If
 * that happens while the snapshot is read, the document's last state comes, once or twice. A cursor sees a document once for each value
 * of its field: with `_id`, exactly once.
 *
 * @typeParam T the stream's messages
 * @typeParam D the collection's documents
 * @example
 * ```ts
 * @StreamSource('orders')
 * export class OrderFeed extends CollectionSource<Order> {
 *   constructor(@InjectConnection() connection: Connection) {
 *     super({ connection, collection: 'orders', filter: { state: 'paid' } });
 *   }
 * }
 * ```
 */
export class CollectionSource<T = Document, D extends Document = Document> implements Source<T> {
  private readonly reading: ResolvedReading;
  private readonly counted = newCounters();

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: CollectionSourceOptions<T, D>) {
    this.reading = resolveReading(new.target.name, options);
  }

  get counters(): SourceCounters {
    return { ...this.counted };
  }

  /**
   * @throws MinibatchError `SourceFailed` if the stored position cannot be resumed (see `onLostToken`) or the field cannot be
   *   followed; `InvalidOptions` if a change stream is needed and the server has none
   */
  async stream(target: SourceTarget<T>, signal: AbortSignal): Promise<void> {
    const { reading, counted } = this;
    const { clock = SYSTEM_CLOCK, log } = target;
    try {
      // The connection may still be waiting for its server.
      const collection = await unlessAborted(reading.open(signal, clock), signal);
      if (collection === undefined) return;
      const { where, unstorable } = reading;
      const { namespace } = collection;
      const nameOf = nameOfDocument(namespace);
      const problems = new MessageProblems({ where, unstorable, nameOf, counters: counted, log });
      const appender = new DocumentAppender(namespace, target, reading, problems, counted, signal);
      const follower = new CollectionFollower(collection, { ...reading, clock, log }, appender);
      await follower.follow(await target.position());
    } catch (error) {
      // A query that the signal ended says so.
      if (!signal.aborted) throw error;
    }
  }
}
