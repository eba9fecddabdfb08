import type { Document } from 'bson';
import type { mongo } from 'mongoose';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { show } from '../../internal/checks.js';
import type { ResolvedReading } from './collection-source.options.js';
import { type CursorValue, kindOf, type ValueKind } from './cursor-value.js';
import { dedupeId, idText } from './dedupe-id.js';
import { readInBatches } from './find-batches.js';
import type { FoundDocument } from './found-document.js';

/** A document that is there, without its content. */
export interface DocumentMark {
  readonly id: string;
  readonly value: CursorValue;
}

/** The queries and values of the field that a cursor follows. */
export class CursorField {
  readonly sort: Record<string, 1 | -1>;
  readonly reading: Pick<ResolvedReading, 'batch' | 'projection'>;
  private readonly name: string;
  private kind: ValueKind | undefined;

  constructor(
    private readonly collection: mongo.Collection,
    private readonly options: ResolvedReading,
    private readonly signal: AbortSignal,
  ) {
    const { field, batch, projection } = options;
    this.name = field;
    this.sort = { [field]: 1 };
    this.reading = { batch, projection: projection && withField(projection, field) };
  }

  /** The smallest and the largest value must be of one kind, for a comparison finds only values of its own. */
  async check(): Promise<void> {
    const smallest = await this.end(1, { [this.name]: { $ne: null } });
    if (smallest !== undefined) this.kindOf(smallest);
    await this.newest();
  }

  /** The largest value; undefined if there is none. */
  async newest(): Promise<CursorValue | undefined> {
    const value = await this.end(-1, {});
    if (value !== undefined) this.kindOf(value);
    return value;
  }

  private async end(order: 1 | -1, filter: Document): Promise<CursorValue | undefined> {
    const document = await this.collection.findOne(filter, {
      sort: { [this.name]: order },
      projection: { [this.name]: 1 },
      readPreference: 'primary',
      signal: this.signal,
    });
    return document ? this.find(document) : undefined;
  }

  /** @throws MinibatchError `SourceFailed` if the field can't be followed */
  kindOf(value: CursorValue): ValueKind {
    const kind = kindOf(value);
    const { where, fieldGiven } = this.options;
    if (kind === undefined)
      throw this.cannotFollow(`it holds ${show(value)}, which does not grow or can't be compared`);
    if (kind === 'string' && !fieldGiven) {
      throw this.cannotFollow(
        `they are strings, which may be in any order: where they do grow, say so by field: '_id'`,
      );
    }
    this.kind ??= kind;
    if (this.kind === kind) return kind;
    throw new MinibatchError(
      ErrorCode.SourceFailed,
      `${where}: '${this.name}' of ${this.collection.namespace} holds values of several kinds (${this.kind}, ${kind}), and a cursor finds only one: use a change stream, or a field whose values are of one kind`,
      { details: { field: this.name, kinds: [this.kind, kind] } },
    );
  }

  private cannotFollow(why: string): MinibatchError {
    return new MinibatchError(
      ErrorCode.SourceFailed,
      `${this.options.where}: a cursor can't follow '${this.name}' of ${this.collection.namespace}: ${why}. Give the option field: a field with an index whose values grow from document to document (ObjectIds, dates, numbers), or use a replica set, which has change streams`,
      { details: { field: this.name } },
    );
  }

  valueOf(document: Document): CursorValue {
    const value = this.find(document);
    if (value !== undefined) return value;
    throw this.cannotFollow(`the document ${idText(document['_id'])} has no single value there`);
  }

  private find(document: Document): CursorValue | undefined {
    let value: unknown = document;
    for (const step of this.name.split('.')) {
      value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[step] : undefined;
    }
    return value ?? undefined;
  }

  /** With `_id` one message a document, else one for each value. */
  dedupeId(document: Document): string {
    const id: unknown = document['_id'];
    const { namespace } = this.collection;
    return this.name === '_id' ? dedupeId(namespace, id) : dedupeId(namespace, id, idText(this.valueOf(document)));
  }

  /** The wanted documents from this value on; all if there is none. */
  atLeast(from: CursorValue | undefined): Document {
    if (from !== undefined) return this.wanted({ $gte: from });
    return this.name === '_id' ? this.options.filter : this.wanted({ $ne: null });
  }

  above(value: CursorValue): Document {
    return this.wanted({ $gt: value });
  }

  private wanted(range: Document): Document {
    return { $and: [{ [this.name]: range }, this.options.filter] };
  }

  /** The newest documents that are not below `from`, newest first. */
  async last(from: CursorValue | undefined, limit: number): Promise<readonly DocumentMark[]> {
    const documents = await this.collection
      .find<Document>(this.atLeast(from), {
        projection: this.marks(),
        sort: { [this.name]: -1 },
        limit,
        readPreference: 'primary',
        signal: this.signal,
      })
      .toArray();
    return documents.map((document) => this.markOf(document));
  }

  /** The documents between the values, both inclusive, that are not known; in batches. Only these are read as a whole. */
  async *late(
    from: CursorValue | undefined,
    to: CursorValue,
    isKnown: (id: string) => boolean,
  ): AsyncGenerator<readonly FoundDocument[]> {
    const range = from === undefined ? { $lte: to } : { $gte: from, $lte: to };
    // Ids are small, and an index on the field alone answers for `_id`.
    const marks = { batch: Math.max(this.reading.batch, 1000), projection: this.marks() };
    for await (const documents of readInBatches(this.collection, marks, this.wanted(range), this.sort, this.signal)) {
      const ids = documents.flatMap(({ document }) =>
        isKnown(this.markOf(document).id) ? [] : [document['_id'] as unknown],
      );
      if (ids.length > 0)
        yield* readInBatches(this.collection, this.reading, { _id: { $in: ids } }, this.sort, this.signal);
    }
  }

  private marks(): Record<string, 1> {
    return { _id: 1, [this.name]: 1 };
  }

  private markOf(document: Document): DocumentMark {
    return { id: this.dedupeId(document), value: this.valueOf(document) };
  }
}

/** Without the field in it, a document does not tell where to go on. */
function withField(projection: Readonly<Record<string, 0 | 1>>, field: string): Readonly<Record<string, 0 | 1>> {
  if (Object.values(projection)[0] !== 0)
    return Object.keys(projection).length === 0 ? projection : { ...projection, [field]: 1 };
  return Object.fromEntries(Object.entries(projection).filter(([name]) => name !== field));
}
