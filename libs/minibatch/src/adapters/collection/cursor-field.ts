import type { Document } from 'bson';
import type { mongo } from 'mongoose';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { show } from '../../common/checks.js';
import type { ResolvedReading } from './collection-source.options.js';
import { type CursorValue, kindOf, larger, type ValueKind } from './cursor-value.js';
import { dedupeId, idText } from './dedupe-id.js';
import { readInBatches } from './find-batches.js';
import type { FoundDocument } from './found-document.js';

/** A document of the collection, without its content. */
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

  /** The smallest and the largest value must be of one kind: a comparison only finds values of its own kind. */
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

  /** Arrays sort by one of their elements, and are skipped. */
  private async end(order: 1 | -1, filter: Document): Promise<CursorValue | undefined> {
    const documents = this.collection.find<Document>(filter, {
      sort: { [this.name]: order },
      projection: { [this.name]: 1 },
      readPreference: 'primary',
      signal: this.signal,
    });
    let arrays = 0;
    for await (const document of documents) {
      const value = this.find(document);
      if (value !== undefined) return value;
      // Those that follow have no value either.
      const { values, inArray } = this.valuesOf(document);
      if (order === -1 && values.length === 0) break;
      if (inArray) arrays += 1;
    }
    if (arrays > 0) throw this.cannotFollow('no document has a single value there, all of them are in arrays');
    return undefined;
  }

  /** @throws MinibatchError `SourceFailed` if the field cannot be followed */
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

  /** Undefined for a document that the cursor cannot place: it has several values, in an array, or none that can be decoded. */
  find(document: Document): CursorValue | undefined {
    const { values, inArray } = this.valuesOf(document);
    return inArray ? undefined : values[0];
  }

  /** The largest value by which queries find the document; undefined if they do not find it. */
  lastOf(document: Document): CursorValue | undefined {
    const values = this.valuesOf(document).values.filter((value) => kindOf(value) === this.kind);
    return values.reduce<CursorValue | undefined>((last, value) => (last ? larger(last, value) : value), undefined);
  }

  /** Why a document cannot be placed. */
  unplaced(document: Document): MinibatchError {
    const what = this.valuesOf(document).inArray ? 'holds an array' : 'has no value that can be decoded';
    return new MinibatchError(
      ErrorCode.SourceFailed,
      `its '${this.name}' ${what}, so a cursor cannot tell where the document stands: it needs a single value`,
      { details: { reason: 'NO_SINGLE_VALUE', field: this.name } },
    );
  }

  /** As the server compares them: an array on the path, or at its end, stands for each of its elements. */
  private valuesOf(document: Document): { readonly values: readonly CursorValue[]; readonly inArray: boolean } {
    let inArray = false;
    const elements = (value: unknown): readonly unknown[] => {
      if (!Array.isArray(value)) return [value];
      inArray = true;
      return value;
    };
    let values: readonly unknown[] = [document];
    for (const step of this.name.split('.')) {
      values = values.flatMap((value) => {
        if (Array.isArray(value) && step in value) return [value[Number(step)]] as readonly unknown[];
        return elements(value).map((each) => (isObject(each) ? each[step] : undefined));
      });
    }
    const found = values.flatMap(elements).filter((value) => value !== undefined && value !== null);
    return { values: found as readonly CursorValue[], inArray };
  }

  /** With `_id`, or where there is no single value: one message per document. Otherwise one for each value. */
  dedupeId(document: Document): string {
    const id: unknown = document['_id'];
    const { namespace } = this.collection;
    const value = this.name === '_id' ? undefined : this.find(document);
    return value === undefined ? dedupeId(namespace, id) : dedupeId(namespace, id, idText(value));
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
    return documents.flatMap((document) => {
      const value = this.lastOf(document);
      return value === undefined ? [] : { id: this.dedupeId(document), value };
    });
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
        isKnown(this.dedupeId(document)) ? [] : [document['_id'] as unknown],
      );
      if (ids.length > 0)
        yield* readInBatches(this.collection, this.reading, { _id: { $in: ids } }, this.sort, this.signal);
    }
  }

  private marks(): Record<string, 1> {
    return { _id: 1, [this.name]: 1 };
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

/** Without this field, a document would not say where to resume. */
function withField(projection: Readonly<Record<string, 0 | 1>>, field: string): Readonly<Record<string, 0 | 1>> {
  if (Object.values(projection)[0] !== 0)
    return Object.keys(projection).length === 0 ? projection : { ...projection, [field]: 1 };
  return Object.fromEntries(Object.entries(projection).filter(([name]) => name !== field));
}
