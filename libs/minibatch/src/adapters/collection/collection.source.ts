import type { mongo } from 'mongoose';
import { invalidOption } from '../../common/checks.js';
import type { Source, SourceTarget } from '../../sources/source.interface.js';
import { unlessAborted } from '../../common/abort.js';
import { DocumentAppender } from './document-appender.js';
import { followChanges } from './change-feed.js';
import { ChangeStream } from './change-stream.js';
import { type CollectionSourceOptions, type ResolvedReading, resolveReading } from './collection-source.options.js';
import { CursorFeed } from './cursor-feed.js';
import { type CollectionSourceCounts, DocumentCounts } from './document-counts.js';
import { type StartingPoint, startAfterLoss, startingPointOf, timeOfToken } from './lost-position.js';
import { openChanges } from './open-changes.js';
import type { SnapshotPosition } from './position.js';
import { serverFacts } from './server-facts.js';
import { readSnapshot } from './snapshot.js';
import { SnapshotOverlap } from './snapshot-overlap.js';

/**
 * Feeds a stream with the documents of a MongoDB collection: those that are there, then those that are inserted.
 *
 * By the server's change stream where it has one, else by a cursor on a field that grows, with a look-back for the ids of other
 * writers that turn up late. The position is stored with the messages or after them, so nothing is skipped; what is read again
 * after a crash has the same dedupe ids and is ignored for as long as the stream remembers them. The ids begin with the source's name:
 * two sources may read collections of one name, and a source that is attached under another name reads the collection again.
 *
 * Each insert that a change stream tells of is a message, also of a document that was deleted and inserted again under the same `_id`. If
 * that happens while the snapshot is read, the document's last state comes, once or twice. A cursor sees a document once for each value
 * of its field: with `_id`, once for ever.
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
export class CollectionSource<
  T = mongo.BSON.Document,
  D extends mongo.BSON.Document = mongo.BSON.Document,
> implements Source<T> {
  private readonly reading: ResolvedReading;
  private readonly counted: DocumentCounts;

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: CollectionSourceOptions<T, D>) {
    this.reading = resolveReading(new.target.name, options);
    this.counted = new DocumentCounts(this.reading);
  }

  /** Documents since it was made, over all streams that it feeds in this process. */
  get counts(): CollectionSourceCounts {
    const { skipped, unstorable } = this.counted;
    return { skipped, unstorable };
  }

  /**
   * @throws MinibatchError `SourceFailed` if the stored position can't be gone on from (see `onLostToken`) or the field can't be
   *   followed; `InvalidOptions` if a change stream is needed and the server has none
   */
  async stream(target: SourceTarget<T>, signal: AbortSignal): Promise<void> {
    try {
      // The connection may still be waiting for its server.
      const collection = await unlessAborted(this.reading.open(signal), signal);
      if (collection === undefined) return;
      const appender = new DocumentAppender(collection.namespace, target, this.reading, this.counted, signal);
      const beginning = startingPointOf(this.reading, collection.namespace, await target.position());
      if (this.reading.mode === 'cursor') await this.followCursor(collection, appender, beginning);
      else await this.followChanges(collection, appender, beginning);
    } catch (error) {
      // What a query says that was ended by the signal.
      if (!signal.aborted) throw error;
    }
  }

  private async followCursor(
    collection: mongo.Collection,
    appender: DocumentAppender,
    beginning: StartingPoint,
  ): Promise<void> {
    const { reading } = this;
    const { position, snapshot } = beginning;
    if (position === undefined) {
      await new CursorFeed(collection, { ...reading, snapshot }, appender).run(undefined);
    } else if (position.mode === 'cursor' && position.field === reading.field) {
      await new CursorFeed(collection, reading, appender).run(position);
    } else {
      const field = position.mode === 'cursor' ? `field '${position.field}'` : 'change stream';
      const why = `it is one of the ${field}, and now a cursor on '${reading.field}' is used`;
      await this.followCursor(collection, appender, startAfterLoss(reading, collection.namespace, why));
    }
  }

  private async followChanges(
    collection: mongo.Collection,
    appender: DocumentAppender,
    beginning: StartingPoint,
  ): Promise<void> {
    const { reading } = this;
    const { position } = beginning;
    const start = position && position.mode !== 'cursor' ? position.start : undefined;
    const opening = await openChanges(collection, reading, start, appender.signal);
    if ('unsupported' in opening) {
      this.needNoChangeStream();
      await this.followCursor(collection, appender, beginning);
    } else if ('lost' in opening) {
      const why = 'the server has forgotten what came after it; a larger oplog remembers more';
      const after = startAfterLoss(reading, collection.namespace, why, {
        cause: opening.lost,
        since: timeOfToken(start),
      });
      await this.followChanges(collection, appender, after);
    } else if (position?.mode === 'cursor' && position.field !== '_id') {
      await opening.changes.close();
      const why = `it is one of the field '${position.field}', and now a change stream is used`;
      await this.followChanges(collection, appender, startAfterLoss(reading, collection.namespace, why));
    } else {
      await this.snapshotThenTail(collection, appender, beginning, opening.changes);
    }
  }

  private needNoChangeStream(): void {
    const { where, mode, operations } = this.reading;
    const because = 'the server has no change streams: it is no replica set';
    if (mode === 'changeStream') throw invalidOption(where, 'mode', mode, `'auto' or 'cursor', for ${because}`);
    if (operations.some((operation) => operation !== 'insert')) {
      const allowed = `['insert'], for ${because}; field: 'updatedAt' sees changed documents too`;
      throw invalidOption(where, 'operations', operations, allowed);
    }
  }

  private async snapshotThenTail(
    collection: mongo.Collection,
    appender: DocumentAppender,
    beginning: StartingPoint,
    opened: ChangeStream,
  ): Promise<void> {
    const { reading } = this;
    const { signal } = appender;
    let changes = opened;
    const { position } = beginning;
    const snapshot = snapshotOf(beginning, changes);
    const overlapStart = position?.mode === 'changeStream' && position.overlap ? position.start : snapshot?.start;
    try {
      if (snapshot) {
        // It may take longer than a server keeps an idle change stream.
        await changes.close();
        if (!(await readSnapshot(collection, reading, snapshot, appender))) return;
        await appender.append([], { mode: 'changeStream', start: snapshot.start, overlap: true });
      } else if (position === undefined) {
        // Else what comes before the first message is stored would be missed after a crash.
        await appender.append([], { mode: 'changeStream', start: changes.position });
      }
      if (overlapStart) {
        await changes.close();
        const { exactTime } = await serverFacts(collection, signal);
        const overlap = new SnapshotOverlap(overlapStart, exactTime);
        changes = await ChangeStream.open(collection, reading, overlapStart, signal, true);
        const next = await followChanges(changes, appender, reading, overlap);
        if (next === undefined) return;
        await changes.close();
        changes = await ChangeStream.open(collection, reading, next, signal);
      }
      for (;;) {
        const next = await followChanges(changes, appender, reading);
        if (next === undefined) return;
        await changes.close();
        changes = await ChangeStream.open(collection, reading, next, signal);
      }
    } finally {
      await changes.close();
    }
  }
}

/** What is to be read before the change stream, if anything is. */
function snapshotOf({ position, snapshot }: StartingPoint, changes: ChangeStream): SnapshotPosition | undefined {
  if (position?.mode === 'snapshot') return position;
  const start = changes.position;
  if (position?.mode === 'cursor') {
    // The server has become a replica set: the rest of the collection, then its changes from now on.
    return { mode: 'snapshot', start, ...(position.from === undefined ? {} : { from: position.from }) };
  }
  return position === undefined && snapshot ? { mode: 'snapshot', start } : undefined;
}
