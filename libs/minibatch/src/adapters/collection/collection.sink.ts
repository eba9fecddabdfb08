import type { mongo } from 'mongoose';
import { ResultRefused } from '../../errors/minibatch.error.js';
import { resultId } from '../../windows/result-id.js';
import type { Window } from '../../windows/window.js';
import type { Sink } from '../../sinks/sink.interface.js';
import type { FailedResult } from '../failed-result.js';
import { type CollectionSinkOptions, type ResolvedWriting, resolveWriting } from './collection-sink.options.js';
import { documentsOf } from './result-documents.js';
import { cutIntoBatches, type ResultDocument, unencodable, unencodableOf } from './write-batches.js';
import { notWritten, refusedOf } from './write-failures.js';

const OPTIONS = {
  // One bad document must not hold back those after it.
  ordered: false,
  // Safe in a power cut, whatever the connection's URI says; a write that takes longer is retried.
  writeConcern: { w: 'majority', wtimeoutMS: 30_000 },
  // As in JSON; otherwise they would become null.
  ignoreUndefined: true,
} as const;

const DUPLICATE_KEY = 11_000;

/**
 * Writes results to a MongoDB collection. An array gives one document for each element (an empty one and undefined elements give
 * none); anything that is not an object is stored as `{ _id, value }`: `0`, `''` and `null` too.
 *
 * With mode `'upsert'` the `_id` is the window's id, for arrays `<window id>:<index>`; a document that has an `_id` of its own keeps
 * it, and replaces the one in the collection. So a result that is written again, after a crash or because another sink failed,
 * doubles nothing. If the handler ran again and returned a shorter array, the first one's last documents stay.
 *
 * With mode `'insert'` the server gives the ids, and a result that is written again is there twice. A result's own `_id` that is there
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
   * @throws MinibatchError `MessageTooLarge` before anything is written; `SinkFailed` if documents were not written, with
   *   `details.failed` ({@link FailedResult}): the others are written
   * @throws ResultRefused before anything of its batch is written if a document cannot be encoded (a NUL in a key, a cycle, with mode
   *   `'upsert'` a key that begins with `$`); as `SinkFailed` if the server says that all those documents are at fault themselves
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
    const failed: FailedResult[] = [];
    let cause: unknown;
    for (const batch of batches) {
      const refused = await this.writeBatch(collection, batch).catch((error: unknown) => {
        throw (isFromServer(error) ? undefined : unencodableOf(where, batch)) ?? error;
      });
      failed.push(...refused.documents);
      cause ??= refused.cause;
    }
    if (failed.length > 0) throw notWritten(where, collection.namespace, window.id, failed, documents.length, cause);
  }

  private numbered(result: unknown, window: Window): readonly ResultDocument[] {
    const isList = Array.isArray(result);
    return this.documents(result).flatMap((document, index): ResultDocument[] => {
      if (document === undefined) return [];
      if (this.writing.mode === 'insert') return [{ index, document, replaces: false }];
      const made = resultId(window, isList ? index : undefined);
      const _id: unknown = document['_id'] === undefined ? made : document['_id'];
      const operator = Object.keys(document).find((key) => key.startsWith('$'));
      // An insert may take it, but no replacement: what is refused at the second try must be refused at the first.
      if (operator !== undefined) {
        throw unencodable(this.writing.where, index, `its key '${operator}' begins with $, as only operators do`);
      }
      const replaces = !this.isNew(_id, window);
      return [{ index, document: { ...document, _id }, replaces }];
    });
  }

  private documents(result: unknown): ReturnType<typeof documentsOf> {
    try {
      return documentsOf(result);
    } catch (error) {
      // A `toBSON` threw.
      throw error instanceof ResultRefused ? error : unencodable(this.writing.where, undefined, error);
    }
  }

  /** Whether a document of that id is there only if it was written before for the same window. */
  private isNew(id: unknown, window: Window): boolean {
    return typeof id === 'string' && (id === window.id || id.startsWith(`${window.id}:`));
  }

  private async writeBatch(collection: mongo.Collection, batch: readonly ResultDocument[]): Promise<Refused> {
    if (this.writing.mode === 'insert') return insert(collection, batch);
    // A window is written once, except after a failure: an insert is many times cheaper than an upsert.
    const fresh = batch.filter(({ replaces }) => !replaces);
    const inserted = await insert(collection, fresh);
    const there = new Set(inserted.documents.filter(({ code }) => code === DUPLICATE_KEY).map(({ index }) => index));
    const replaced = await replace(
      collection,
      batch.filter(({ replaces, index }) => replaces || there.has(index)),
    );
    const others = inserted.documents.filter(({ index }) => !there.has(index));
    return { documents: [...others, ...replaced.documents], cause: replaced.cause ?? inserted.cause };
  }
}

function insert(collection: mongo.Collection, batch: readonly ResultDocument[]): Promise<Refused> {
  const documents = batch.map(({ document }) => document);
  return refusedBy(batch, () => collection.insertMany(documents, OPTIONS));
}

function replace(collection: mongo.Collection, batch: readonly ResultDocument[]): Promise<Refused> {
  const replacements = batch.map(({ document: { _id, ...replacement } }) => ({
    // By `$eq`: an id that a result brings along must never be read as a condition.
    replaceOne: { filter: { _id: { $eq: _id as mongo.BSON.ObjectId } }, replacement, upsert: true },
  }));
  return refusedBy(batch, () => collection.bulkWrite(replacements, OPTIONS));
}

/** The driver's errors, but for those of encoding: the write went out, or there was no connection. */
function isFromServer(error: unknown): boolean {
  if (!(error instanceof Error) || !/^Mongo(?!InvalidArgument)/.test(error.name)) return false;
  // Version 6 of the driver wraps errors of encoding, too.
  const { errorResponse } = error as { errorResponse?: unknown };
  return !(errorResponse instanceof Error) || isFromServer(errorResponse);
}

/** Documents that the server refused; the others are written. */
interface Refused {
  readonly documents: readonly FailedResult[];
  readonly cause?: unknown;
}

/** Rejects if the write failed as a whole. */
async function refusedBy(batch: readonly ResultDocument[], write: () => Promise<unknown>): Promise<Refused> {
  if (batch.length === 0) return { documents: [] };
  try {
    await write();
    return { documents: [] };
  } catch (cause) {
    const documents = refusedOf(cause, batch);
    if (documents === undefined) throw cause;
    return { documents, cause };
  }
}
