import type { mongo } from 'mongoose';
import { foreignCodeOf } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { FailureReason } from '../failure-reason.js';
import { collectionOf, PREFIX } from './dataset-name.js';
import type { DatasetRef } from './dataset-ref.js';

/** The kinds of datasets that are read and written, as Python names them. */
export const DatasetKind = {
  /** Documents as they are; `om.datasets.get` gives a DataFrame of their fields. */
  RawDict: 'pandas.rawdict',
  /** Any value in each row; `om.datasets.get` gives a list. */
  PythonData: 'python.data',
  /** A DataFrame that Python has stored, with its columns and its index. */
  DataFrame: 'pandas.dfrows',
} as const;
export type DatasetKind = (typeof DatasetKind)[keyof typeof DatasetKind];

/** What the metadata say of a dataset. */
export interface Dataset {
  readonly kind: DatasetKind;
  readonly collection: string;
  /** Of a DataFrame: its index, from the outermost level inwards. */
  readonly index: readonly IndexColumn[];
  /** Types of its columns as pandas names them, by the names they are stored under. */
  readonly dtypes: Readonly<Record<string, string>>;
}

/** A level of a DataFrame's index. */
export interface IndexColumn {
  /** The field it is stored in. */
  readonly field: string;
  /** Undefined if it has none: then it counts the rows. */
  readonly name: string | undefined;
}

/** Of all of a dataset's metadata, what is needed here. */
interface MetadataDocument {
  readonly name: string;
  readonly bucket: string;
  readonly prefix: string;
  readonly kind: string;
  readonly collection?: string;
  readonly kind_meta?: {
    readonly columns?: unknown;
    readonly dtypes?: Readonly<Record<string, string>>;
    readonly idx_meta?: { readonly names?: readonly (string | number | null)[] };
  };
}

/** As Python makes it; without it two processes could make one dataset twice. */
const UNIQUE: mongo.IndexDescription = {
  name: 'name_1_bucket_1_prefix_1',
  key: { name: 1, bucket: 1, prefix: 1 },
  unique: true,
};
const CONFLICTS: readonly unknown[] = [85, 86];
const DUPLICATE_KEY = 11_000;

/** The entry of one dataset in the collection `metadata`. Read anew each time: Python may drop a dataset and make it again. */
export class Metadata {
  private readonly key: { readonly name: string; readonly bucket: string; readonly prefix: string };

  constructor(
    private readonly where: string,
    private readonly ref: Required<DatasetRef>,
    private readonly whenClosed: ErrorCode,
  ) {
    this.key = { name: ref.dataset, bucket: ref.bucket, prefix: PREFIX };
  }

  /** Undefined if there is no such dataset. @throws MinibatchError `WrongDataset` */
  async find(signal?: AbortSignal): Promise<Dataset | undefined> {
    const metadata = await this.collection();
    const found = await metadata.findOne(this.key, { readPreference: 'primary', ...(signal && { signal }) });
    return found ? this.read(found) : undefined;
  }

  /** Makes the dataset if it is not there; of several who try, one makes it. @throws MinibatchError `WrongDataset` */
  async make(kind: DatasetKind, hashed: boolean): Promise<Dataset> {
    const metadata = await this.collection();
    await metadata.createIndexes([UNIQUE]).catch((error: unknown) => {
      // One of the same key with other options is there.
      if (!CONFLICTS.includes(foreignCodeOf(error))) throw error;
    });
    const now = new Date();
    const fresh = {
      kind,
      collection: collectionOf(this.ref.bucket, this.ref.dataset, hashed),
      kind_meta: {},
      attributes: {},
      s3file: {},
      created: now,
      modified: now,
    };
    await metadata
      .updateOne(this.key, { $setOnInsert: fresh }, { upsert: true, writeConcern: { w: 'majority' } })
      .catch((error: unknown) => {
        if (foreignCodeOf(error) !== DUPLICATE_KEY) throw error;
      });
    const made = await this.find();
    if (made) return made;
    throw this.unknown('it was dropped as soon as it was created');
  }

  /** Tells Python that the dataset has changed. */
  async touch(): Promise<void> {
    const metadata = await this.collection();
    await metadata.updateOne(this.key, { $set: { modified: new Date() } });
  }

  unknown(why: string): MinibatchError {
    const { dataset, bucket } = this.ref;
    return new MinibatchError(
      ErrorCode.UnknownDataset,
      `${this.where}: there is no dataset '${dataset}' in bucket '${bucket}' of database '${this.ref.connection.name}': ${why}`,
      { details: { dataset, bucket } },
    );
  }

  wrong(why: string, details: Readonly<Record<string, unknown>>): MinibatchError {
    const { dataset, bucket } = this.ref;
    return new MinibatchError(ErrorCode.WrongDataset, `${this.where}: dataset '${dataset}' ${why}`, {
      details: { dataset, bucket, ...details },
    });
  }

  /** A collection of the database that the datasets lie in. */
  async open<T extends mongo.BSON.Document>(name: string): Promise<mongo.Collection<T>> {
    const { connection } = this.ref;
    await connection.asPromise();
    // Asked for each time: an application may close its connection and open it again.
    if (connection.db) return connection.db.collection<T>(name);
    throw new MinibatchError(
      this.whenClosed,
      `${this.where}: the Mongoose connection of dataset '${this.ref.dataset}' is not open; the attempt is repeated`,
      { details: { reason: FailureReason.Unreachable, dataset: this.ref.dataset } },
    );
  }

  private collection(): Promise<mongo.Collection<MetadataDocument>> {
    return this.open<MetadataDocument>('metadata');
  }

  private read({ kind, collection, kind_meta: meta }: MetadataDocument): Dataset {
    const known = Object.values(DatasetKind).find((name) => name === kind);
    if (known === undefined) {
      const kinds = Object.values(DatasetKind).join(', ');
      throw this.wrong(`is of kind '${kind}'; rows are read from and written to ${kinds}`, { kind });
    }
    if (!collection) throw this.wrong('has no collection in its metadata', { kind });
    return {
      kind: known,
      collection,
      index: known === DatasetKind.DataFrame ? indexOf(meta) : [],
      dtypes: meta?.dtypes ?? {},
    };
  }
}

/** `columns` is a list of pairs: the column's name, and the field it is stored in. */
function indexOf(meta: MetadataDocument['kind_meta']): readonly IndexColumn[] {
  const columns: readonly unknown[] = Array.isArray(meta?.columns) ? meta.columns : [];
  const fields = columns.flatMap((pair: unknown) => (Array.isArray(pair) ? [String(pair[1])] : []));
  return fields
    .flatMap((field) => {
      const level = /^_idx#(\d+)_/.exec(field)?.[1];
      return level === undefined ? [] : [{ field, level: Number(level) }];
    })
    .toSorted((a, b) => a.level - b.level)
    .map(({ field, level }) => {
      const name = meta?.idx_meta?.names?.[level];
      return { field, name: name === null || name === undefined ? undefined : String(name) };
    });
}
