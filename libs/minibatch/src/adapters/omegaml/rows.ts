import type { mongo } from 'mongoose';
import { type Dataset, DatasetKind } from './metadata.js';

/** Python's number of a row, by which it restores their order. */
export const ROW_ID = '_om#rowid';

/** What Python's `om.datasets.get` would show of a document, as one row. */
export function rowOf({ kind, index }: Dataset, document: mongo.BSON.Document): unknown {
  if (kind === DatasetKind.PythonData) return document['data'];
  const { _id, ...fields } = document;
  if (kind === DatasetKind.RawDict) return fields;
  const { [ROW_ID]: _, ...columns } = fields;
  return Object.fromEntries(
    Object.entries(columns).flatMap(([field, value]) => {
      if (!field.startsWith('_idx#')) return [[field, value]];
      const name = index.find((column) => column.field === field)?.name;
      // An index without a name only counts rows.
      return name === undefined ? [] : [[name, value]];
    }),
  );
}
