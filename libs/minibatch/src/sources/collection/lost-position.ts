import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import type { ResolvedReading } from './collection-source.options.js';
import { type CollectionPosition, decodePosition } from './position.js';

/** Where to begin. Without a position: with what is there (`snapshot`), or with what comes. */
export interface Beginning {
  readonly position?: CollectionPosition;
  readonly snapshot: boolean;
}

/** @throws MinibatchError as `beginAfterLoss`, and `SchemaTooNew` */
export function beginningOf(reading: ResolvedReading, collection: string, stored: unknown): Beginning {
  const position = decodePosition(reading.where, collection, stored);
  if (position === undefined) return { snapshot: reading.snapshot };
  if ('unusable' in position) return beginAfterLoss(reading, position.unusable);
  return { position, snapshot: reading.snapshot };
}

/** Carries out `onLostToken`. @throws MinibatchError `SourceFailed` if it is 'fail' */
export function beginAfterLoss(reading: ResolvedReading, why: string, cause?: unknown): Beginning {
  const { where, onLostToken } = reading;
  if (onLostToken !== 'fail') return { snapshot: onLostToken === 'snapshot' };
  const said = cause === undefined ? '' : ` (${messageOf(cause)})`;
  throw new MinibatchError(
    ErrorCode.SourceFailed,
    `${where}: the stored position can't be gone on from: ${why}${said}. Documents may have been missed. Set onLostToken: 'snapshot' to read the collection again (messages that the stream still remembers by their dedupe ids are not doubled), or 'now' to go on with what comes, or attach the source under another name`,
    { cause, details: { reason: 'LOST_POSITION', onLostToken } },
  );
}
