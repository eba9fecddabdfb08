import { ErrorCode } from '../../errors/minibatch.error.js';
import type { mongo } from 'mongoose';
import { checkInteger, checkOptions, invalidOption } from '../../common/checks.js';
import { COLLECTION_REF_KEYS, checkCollectionRef, type CollectionRef } from './collection-ref.js';

/** How results are written. */
export interface CollectionWriting {
  /**
   * - `'upsert'`: each document is written under an `_id` made of the window's id, so that a retry replaces it
   * - `'insert'`: the server gives the ids; a window that is retried is written again, as after a crash
   *
   * @default 'upsert'
   */
  readonly mode?: 'upsert' | 'insert';
  /** Documents in one write. @default 1000 */
  readonly batch?: number;
}

/** With `NoInfer`, so that editors show a text for each option: see `StreamingOptions`. */
export type CollectionSinkOptions = NoInfer<CollectionRef> & CollectionWriting;

/**
 * All options are set.
 *
 * @internal
 */
export interface ResolvedWriting {
  readonly where: string;
  readonly open: () => Promise<mongo.Collection>;
  readonly mode: 'upsert' | 'insert';
  readonly batch: number;
}

const WRITING_KEYS = ['mode', 'batch'] as const satisfies readonly (keyof CollectionWriting)[];

/**
 * Validates the options and fills in the defaults.
 *
 * @throws MinibatchError `InvalidOptions`
 * @internal
 */
export function resolveWriting(where: string, options: CollectionSinkOptions | undefined): ResolvedWriting {
  checkOptions(where, options, [...COLLECTION_REF_KEYS, ...WRITING_KEYS], "{ connection, collection: '…' }");
  const mode: unknown = options.mode ?? 'upsert';
  if (mode !== 'upsert' && mode !== 'insert') throw invalidOption(where, 'mode', mode, "'upsert', 'insert'");
  return {
    where,
    open: checkCollectionRef(where, options, { whenClosed: ErrorCode.SinkFailed }),
    mode,
    batch: checkInteger(where, 'batch', options.batch ?? 1000, 1),
  };
}
