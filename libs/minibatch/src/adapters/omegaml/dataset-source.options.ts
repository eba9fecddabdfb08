import type { mongo } from 'mongoose';
import { checkDuration, invalidOption, show } from '../../common/checks.js';
import {
  type CollectionReading,
  type CollectionSourceOptions,
  READING_KEYS,
} from '../collection/collection-source.options.js';
import { checkDatasetOptions, checkDatasetRef, type DatasetRef } from './dataset-ref.js';

/**
 * How a dataset is followed: as a collection is. `filter`, `projection` and `field` name fields as they are stored (`data.x` in
 * `python.data`).
 *
 * @typeParam T the messages. @typeParam R the rows
 */
export interface DatasetReading<T = unknown, R = T> extends Omit<CollectionReading<T>, 'map' | 'key'> {
  /** What happens while there is no such dataset: `'wait'` looks for it once a `pollInterval`, `'fail'` is an error. @default 'wait' */
  readonly missing?: 'wait' | 'fail';
  /** Makes the message of a row; undefined leaves it out. @default the row */
  readonly map?: (row: R, document: mongo.BSON.Document) => T | undefined;
  /** The message's key. @default none */
  readonly key?: (row: R) => string | undefined;
}

export type DatasetSourceOptions<T = unknown, R = T> = DatasetRef & DatasetReading<T, R>;

/** All options are set. */
export interface ResolvedDatasetReading<T, R> {
  readonly ref: Required<DatasetRef>;
  readonly missing: 'wait' | 'fail';
  readonly pollInterval: number;
  readonly map: NonNullable<DatasetReading<T, R>['map']>;
  readonly key: DatasetReading<T, R>['key'];
  /** What is the collection's business. */
  readonly reading: Omit<CollectionSourceOptions<T>, 'connection' | 'collection' | 'model' | 'map' | 'key'>;
}

const MISSING = ['wait', 'fail'] as const;

/** Validates what is the dataset's business, and fills in the defaults. @throws MinibatchError `InvalidOptions` */
export function resolveDatasetReading<T, R>(
  where: string,
  options: DatasetSourceOptions<T, R>,
): ResolvedDatasetReading<T, R> {
  checkDatasetOptions(where, options, ['missing', ...READING_KEYS]);
  const { connection, dataset, bucket, missing = 'wait', map, key, ...reading } = options;
  if (!MISSING.includes(missing)) throw invalidOption(where, 'missing', missing, MISSING.map(show).join(', '));
  for (const [option, given] of Object.entries({ map, key })) {
    if (given !== undefined && typeof given !== 'function') throw invalidOption(where, option, given, 'a function');
  }
  return {
    ref: checkDatasetRef(where, { connection, dataset, ...(bucket === undefined ? {} : { bucket }) }),
    missing,
    pollInterval: checkDuration(where, 'pollInterval', reading.pollInterval ?? 1000, { min: 10 }),
    // What the dataset holds is the user's word.
    map: map ?? ((row) => row as unknown as T),
    key,
    reading,
  };
}
