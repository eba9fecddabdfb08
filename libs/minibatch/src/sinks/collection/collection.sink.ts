import type { mongo } from 'mongoose';
import type { Window } from '../../windows/window.js';
import type { Sink } from '../sink.interface.js';
import { type CollectionSinkOptions, type ResolvedWriting, resolveWriting } from './collection-sink.options.js';
import { documentsOf } from './result-documents.js';
import { cutIntoBatches, type Numbered } from './write-batches.js';
import { type FailedDocument, notWritten, refusedOf } from './write-failures.js';

const OPTIONS = {
  // One bad document must not hold back those after it.
  ordered: false,
  // Safe in a power cut, whatever the connection's URI says; a write that takes longer is tried again.
  writeConcern: { w: 'majority', wtimeoutMS: 30_000 },
  // As in JSON; else they would become null.
  ignoreUndefined: true,
} as const;

/**
 * Writes results to a MongoDB collection. An array gives one document for each element (an empty one and undefined elements give
 * none); what is no object is stored as `{ _id, value }`: `0`, `''` and `null` too.
 *
 * With mode `'upsert'` the `_id` is the window's id, for arrays `<window id>:<index>`; a document that has an `_id` of its own keeps
 * it, and replaces the one in the collection. So a result that is written again, after a crash or because another sink failed,
 * doubles nothing. If the handler ran again and returned a shorter array, the first one's last documents stay.
 *
 * With mode `'insert'` the server gives the ids, and a result that is written again is there twice. An own `_id` that is there
 * already is an error, also if the first try has written it: results with own ids want `'upsert'`.
 *
 * @typeParam R one result; a handler returns it or an array of it
 * @example
 * ```ts
 * @Injectable()
 * export class Reports extends CollectionSink<Report> {
 *   constructor(@InjectConnection() connection: Connection) {
 *     super({ connection, collection: 'reports' });
 *   }
 * }
 * ```
 */
export class CollectionSink<R = unknown> implements Sink<R | readonly R[]> {
  private readonly writing: ResolvedWriting;

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: CollectionSinkOptions) {
    this.writing = resolveWriting(new.target.name, options);
  }

  /**
   * @throws MinibatchError `MessageTooLarge` before anything is written; `SinkFailed` if the server refused documents, with
   *   `details.failed` ({@link FailedDocument}): the others are written
   */
  put(result: R | readonly R[], window: Window): Promise<void> {
    return this.write(result, window, this.writing.open);
  }

  /**
   * For sinks that make other documents of a result, and know the collection already.
   *
   * @internal
   */
  protected async write(result: unknown, window: Window, open: () => Promise<mongo.Collection>): Promise<void> {
    const { where, batch: most } = this.writing;
    const documents = this.numbered(result, window);
    const batches = cutIntoBatches(where, documents, most);
    if (batches.length === 0) return;
    const collection = await open();
    const failed: FailedDocument[] = [];
    let cause: unknown;
    for (const batch of batches) {
      try {
        await this.writeBatch(collection, batch);
      } catch (error) {
        const refused = refusedOf(error, batch);
        if (refused === undefined) throw error;
        failed.push(...refused);
        cause ??= error;
      }
    }
    if (failed.length > 0) throw notWritten(where, collection.namespace, window.id, failed, documents.length, cause);
  }

  private numbered(result: unknown, window: Window): readonly Numbered[] {
    const isList = Array.isArray(result);
    return documentsOf(result).flatMap((document, index) => {
      if (document === undefined) return [];
      if (this.writing.mode === 'insert' || document['_id'] !== undefined) return [{ index, document }];
      return [{ index, document: { ...document, _id: isList ? `${window.id}:${index}` : window.id } }];
    });
  }

  private async writeBatch(collection: mongo.Collection, batch: readonly Numbered[]): Promise<void> {
    const documents = batch.map(({ document }) => document);
    if (this.writing.mode === 'insert') {
      await collection.insertMany(documents, OPTIONS);
      return;
    }
    const replacements = documents.map(({ _id, ...replacement }) => ({
      // By `$eq`: an id that a result brings along must never be read as a condition.
      replaceOne: { filter: { _id: { $eq: _id as mongo.BSON.ObjectId } }, replacement, upsert: true },
    }));
    await collection.bulkWrite(replacements, OPTIONS);
  }
}
