import { checkBoolean, checkInteger, invalidOption, show } from '../../common/checks.js';
import { checkDatasetOptions, checkDatasetRef, type DatasetRef } from './dataset-ref.js';
import { DatasetKind } from './metadata.js';

/** How results become rows. */
export interface DatasetWriting {
  /**
   * Kind of the dataset. If it is given, a dataset of another kind is refused; otherwise each of the three is written to, and a
   * new one is a `'pandas.rawdict'`. A `'pandas.dfrows'` cannot be made here: only Python knows the types of its columns.
   *
   * @default any; `'pandas.rawdict'` for a new one
   */
  readonly kind?: DatasetKind;
  /** Names of new collections are hashed: false where Python runs with `OMEGA_STORE_HASHEDNAMES=0`. @default true */
  readonly hashedNames?: boolean;
  /** Rows in one write. @default 1000 */
  readonly batch?: number;
}

export type DatasetSinkOptions = DatasetRef & DatasetWriting;

/** All options are set. */
export interface ResolvedDatasetWriting {
  readonly ref: Required<DatasetRef>;
  readonly kind: DatasetKind | undefined;
  readonly hashedNames: boolean;
  readonly batch: number;
}

const KINDS = Object.values(DatasetKind);

/** Validates the options and fills in the defaults. @throws MinibatchError `InvalidOptions` */
export function resolveDatasetWriting(where: string, options: DatasetSinkOptions): ResolvedDatasetWriting {
  checkDatasetOptions(where, options, ['kind', 'hashedNames', 'batch']);
  const { kind } = options;
  if (kind !== undefined && !KINDS.includes(kind)) {
    throw invalidOption(where, 'kind', kind, KINDS.map(show).join(', '));
  }
  return {
    ref: checkDatasetRef(where, options),
    kind,
    hashedNames: checkBoolean(where, 'hashedNames', options.hashedNames ?? true),
    batch: checkInteger(where, 'batch', options.batch ?? 1000, 1),
  };
}
