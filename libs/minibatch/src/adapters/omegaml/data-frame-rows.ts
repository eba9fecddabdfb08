import type { mongo } from 'mongoose';
import type { Dataset, Metadata } from './metadata.js';
import { isRow, toColumn } from './python-values.js';
import { ROW_ID } from './rows.js';

/** A row on its way into a DataFrame. */
export interface Numbered {
  readonly _id: string;
  readonly row: unknown;
}

/**
 * The documents of rows for a DataFrame that Python has stored: with a number behind those that are there, and with its index. Rows that
 * were written before, by a try that failed after all, keep their numbers.
 *
 * @throws MinibatchError `WrongDataset` if a row is not an object or lacks a level of the index
 */
export async function toFrameDocuments(
  collection: mongo.Collection<mongo.BSON.Document>,
  dataset: Dataset,
  rows: readonly Numbered[],
  metadata: Metadata,
): Promise<readonly mongo.BSON.Document[]> {
  // Before anything is asked: it cannot be written anyway.
  const columns = rows.map(({ row }, index) => columnsOf(dataset, row, index, metadata));
  const numbers = await numbersOf(collection, rows);
  return rows.map(({ _id }, index) => {
    const number = numbers[index];
    const counting = dataset.index
      .filter(({ name }) => name === undefined)
      .map(({ field }) => [field, number] as const);
    return { _id, ...Object.fromEntries(counting), ...columns[index], [ROW_ID]: number };
  });
}

function columnsOf(
  { index, dtypes }: Dataset,
  row: unknown,
  place: number,
  metadata: Metadata,
): Readonly<Record<string, unknown>> {
  if (!isRow(row)) {
    throw metadata.wrong(
      `holds a DataFrame, and row ${place} of the result is not an object: return one with its columns`,
      {
        row: place,
      },
    );
  }
  const named = index.filter(({ name }) => name !== undefined);
  const missing = named.find(({ name }) => row[name ?? ''] === undefined || row[name ?? ''] === null);
  if (missing) {
    throw metadata.wrong(`has the index '${missing.name}', and row ${place} of the result has no value for it`, {
      row: place,
      column: missing.name,
    });
  }
  const fields = Object.entries(row).map(([name, value]) => {
    // As Python names the field of a column.
    const field = named.find((level) => level.name === name)?.field ?? name.replaceAll('.', '_');
    return [field, toColumn(value, dtypes[field])] as const;
  });
  // What a row lacks is null, as in a DataFrame.
  const absent = Object.keys(dtypes).filter((field) => field !== ROW_ID && !field.startsWith('_idx#'));
  return { ...Object.fromEntries(absent.map((field) => [field, null])), ...Object.fromEntries(fields) };
}

async function numbersOf(
  collection: mongo.Collection<mongo.BSON.Document>,
  rows: readonly Numbered[],
): Promise<readonly number[]> {
  const ids = rows.map(({ _id }) => _id);
  const [written, last] = await Promise.all([
    collection
      .find({ _id: { $in: ids as never[] } }, { projection: { [ROW_ID]: 1 }, batchSize: ids.length + 1 })
      .toArray(),
    collection.findOne({}, { sort: { [ROW_ID]: -1 }, projection: { [ROW_ID]: 1 } }),
  ]);
  const known = new Map(written.map((document) => [String(document._id), Number(document[ROW_ID])]));
  let next = last === null ? 0 : Number(last[ROW_ID] ?? -1) + 1;
  return ids.map((id) => known.get(id) ?? next++);
}
