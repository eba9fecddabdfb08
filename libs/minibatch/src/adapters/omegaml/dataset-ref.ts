import type { Connection } from 'mongoose';
import { checkName, checkOptions, invalidOption } from '../../common/checks.js';
import { checkDatasetName } from './dataset-name.js';

/** Which dataset. */
export interface DatasetRef {
  /** The Mongoose connection to the database of omega|ml: the one in the URL that Python's `om.setup(mongo_url=…)` is given. */
  readonly connection: Connection;
  /** As in `om.datasets.get('name')`; folders by `/`. */
  readonly dataset: string;
  /** As in `om['bucket'].datasets`. @default 'omegaml' */
  readonly bucket?: string;
}

const DATASET_REF_KEYS = ['connection', 'dataset', 'bucket'] as const satisfies readonly (keyof DatasetRef)[];

/** @throws MinibatchError `InvalidOptions` */
export function checkDatasetRef(where: string, { connection, dataset, bucket }: DatasetRef): Required<DatasetRef> {
  if (typeof connection !== 'object' || connection === null || typeof connection.asPromise !== 'function') {
    throw invalidOption(where, 'connection', connection, 'a connection of Mongoose');
  }
  return {
    connection,
    dataset: checkDatasetName(where, dataset),
    bucket: checkName(where, 'bucket', bucket ?? 'omegaml'),
  };
}

/** @param keys of the other options @throws MinibatchError `InvalidOptions` */
export function checkDatasetOptions<T>(
  where: string,
  options: T | undefined,
  keys: readonly string[],
): asserts options is T {
  checkOptions(where, options, [...DATASET_REF_KEYS, ...keys], "{ connection, dataset: '…' }");
}
