import type { mongo } from 'mongoose';
import { isA } from '../../errors/error-text.js';
import { ErrorCode, messageOf, MinibatchError, ResultRefused } from '../../errors/minibatch.error.js';
import { CollectionSink } from '../collection/collection.sink.js';
import { resultId } from '../../windows/result-id.js';
import type { Window } from '../../windows/window.js';
import { FailureReason } from '../failure-reason.js';
import { refuseWindow } from '../returned-window.js';
import { toFrameDocuments } from './data-frame-rows.js';
import { type DatasetSinkOptions, type ResolvedDatasetWriting, resolveDatasetWriting } from './dataset-sink.options.js';
import { type Dataset, DatasetKind, Metadata } from './metadata.js';
import { isRow, toPython } from './python-values.js';

/**
 * Appends results to a dataset of omega|ml, as rows that Python's `om.datasets.get` reads. A result is one row, an array one row for each
 * element (undefined elements give none). A dataset that is not there is made.
 *
 * The `_id` of a row is `<window id>:<index>`, so a result that is written again, after a crash or because another sink failed, doubles
 * nothing.
 *
 * - `pandas.rawdict`: the row's fields. What is not an object is stored as `{ value }`. Python shows the fields that the first document has, so
 *   give every row all of them, as null where it has no value.
 * - `python.data`: any value.
 * - `pandas.dfrows`: the row's columns. Rows are numbered behind those that are there; an index that has a name is a
 *   column that every row has to have. Give such a dataset one writer at a time: Python and this sink number rows by looking what is there.
 *
 * Whole numbers are ints for Python, up to 53 bits; a `bigint` up to 64. Undefined is null.
 *
 * @typeParam R one row; a handler returns it or an array of it
 * @example
 * ```ts
 * @Injectable()
 * export class ReportDataset extends DatasetSink<Report> {
 *   constructor(@InjectConnection('omega') connection: Connection) {
 *     super({ connection, dataset: 'reports' });
 *   }
 * }
 * ```
 */
export class DatasetSink<R = unknown> extends CollectionSink<R> {
  private readonly dataset: ResolvedDatasetWriting;
  private readonly metadata: Metadata;
  /** Rows of a DataFrame are numbered by what is there: one result after the other. */
  private numbering: Promise<unknown> = Promise.resolve();

  /** @throws MinibatchError `InvalidOptions` */
  constructor(options: DatasetSinkOptions) {
    const where = new.target.name;
    const dataset = resolveDatasetWriting(where, options);
    const metadata = new Metadata(where, dataset.ref, ErrorCode.SinkFailed);
    super({
      connection: dataset.ref.connection,
      collection: async () => (await find(metadata, dataset)).collection,
      batch: dataset.batch,
    });
    this.dataset = dataset;
    this.metadata = metadata;
  }

  /**
   * @throws MinibatchError `WrongDataset` if the dataset is of another kind; `UnknownDataset` if it is not there and cannot be made here;
   *   `MessageTooLarge`, `SinkFailed` as {@link CollectionSink}
   * @throws ResultRefused if the rows do not fit the dataset, and as {@link CollectionSink}
   */
  override async put(result: R | readonly R[], window: Window): Promise<void> {
    const rows = rowsOf(result, window);
    if (rows.length === 0) return;
    const found = await find(this.metadata, this.dataset);
    const collection = await this.metadata.open(found.collection);
    if (found.kind === DatasetKind.DataFrame) await this.inTurn(() => this.putFrame(rows, window, found, collection));
    else
      await this.write(
        await refusing(async () => rows.map((row) => documentOf(found.kind, row))),
        window,
        async () => collection,
      );
    await this.metadata.touch();
  }

  private async putFrame(
    rows: readonly Row[],
    window: Window,
    found: Dataset,
    collection: mongo.Collection,
  ): Promise<void> {
    const documents = await refusing(() => toFrameDocuments(collection, found, rows, this.metadata));
    await this.write(documents, window, async () => collection);
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.numbering.then(work);
    this.numbering = turn.catch(() => undefined);
    return turn;
  }
}

/** What is wrong with a row stays wrong. */
async function refusing<R>(make: () => Promise<R>): Promise<R> {
  try {
    return await make();
  } catch (error) {
    const isUnfit = isA(error, MinibatchError) && error.code === ErrorCode.WrongDataset && 'row' in error.details;
    if (isUnfit) throw new ResultRefused(messageOf(error), { cause: error, details: error.details });
    const details = { reason: FailureReason.Unencodable };
    if (isA(error, TypeError))
      throw new ResultRefused(`a row of the result cannot be stored: ${messageOf(error)}`, { cause: error, details });
    if (!isA(error, RangeError)) throw error;
    throw new ResultRefused('a row of the result contains itself, or is nested too deep', { cause: error, details });
  }
}

interface Row {
  readonly _id: string;
  readonly row: unknown;
}

function rowsOf(result: unknown, window: Window): readonly Row[] {
  const rows: readonly unknown[] = Array.isArray(result) ? result : [result];
  return rows.flatMap((row, index) => (row === undefined ? [] : [{ _id: resultId(window, index), row }]));
}

function documentOf(kind: DatasetKind, { _id, row }: Row): mongo.BSON.Document {
  refuseWindow(row);
  const value = toPython(row);
  if (kind === DatasetKind.PythonData) return { _id, data: value };
  // An id that a row brings along stays its own.
  return isRow(value) ? { _id, ...value } : { _id, value };
}

async function find(metadata: Metadata, { kind, hashedNames }: ResolvedDatasetWriting): Promise<Dataset> {
  const found = await metadata.find();
  if (!found) {
    if (kind !== DatasetKind.DataFrame) return metadata.make(kind ?? DatasetKind.RawDict, hashedNames);
    throw metadata.unknown(
      `create it with om.datasets.put(dataframe, …) in Python, which knows the types of its columns`,
    );
  }
  if (kind === undefined || kind === found.kind) return found;
  throw metadata.wrong(
    `is of kind '${found.kind}', and '${kind}' is asked for: name another dataset, or leave out kind`,
    {
      kind: found.kind,
      allowed: kind,
    },
  );
}
