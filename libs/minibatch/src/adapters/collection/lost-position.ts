import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import { FailureReason } from '../failure-reason.js';
import type { Reading } from './collection-source.options.js';
import { type ChangeStart, type CollectionPosition, decodePosition } from './position.js';

/** Where to begin. Without a position: with what is there (`snapshot`), or with what comes. */
export interface StartingPoint {
  readonly position?: CollectionPosition;
  readonly snapshot: boolean;
}

/** @throws MinibatchError as `startAfterLoss`, and `SchemaTooNew` */
export function startingPointOf(reading: Reading, collection: string, stored: unknown): StartingPoint {
  const position = decodePosition(reading.where, collection, stored);
  if (position === undefined) return { snapshot: reading.snapshot };
  if ('unusable' in position) return startAfterLoss(reading, collection, position.unusable);
  return { position, snapshot: reading.snapshot };
}

/** Carries out `onLostToken`. @throws MinibatchError `SourceFailed` if it is 'fail' */
export function startAfterLoss(
  reading: Reading,
  collection: string,
  why: string,
  { cause, since }: { readonly cause?: unknown; readonly since?: Date | undefined } = {},
): StartingPoint {
  const { where, onLostToken } = reading;
  const said = cause === undefined ? '' : ` (${messageOf(cause)})`;
  const what = `${where}: the stored position cannot be resumed: ${why}${said}`;
  if (onLostToken === 'fail') {
    throw new MinibatchError(
      ErrorCode.SourceFailed,
      `${what}. Documents may have been missed. Set onLostToken: 'snapshot' to read the collection again, or 'now' to continue with what is written from now on, or attach the source under another name`,
      { cause, details: { reason: FailureReason.LostPosition, onLostToken } },
    );
  }
  const gap = since ? `since ${since.toISOString()}` : 'since that position';
  reading.log?.warn(
    onLostToken === 'now'
      ? `${what}. onLostToken is 'now': what was written to ${collection} ${gap} is skipped`
      : `${what}. onLostToken is 'snapshot': all of ${collection} is read again. Documents that were read before are appended again, except those whose dedupe ids the stream still remembers`,
  );
  return { snapshot: onLostToken === 'snapshot' };
}

/** When the server wrote the event that a token names; undefined where it does not tell. */
export function timeOfToken(start: ChangeStart | undefined): Date | undefined {
  if (start === undefined) return undefined;
  if ('startAtOperationTime' in start) return timeOf(start.startAtOperationTime);
  const { _data } = (start.startAfter ?? {}) as { readonly _data?: unknown };
  // A keystring: the type of a timestamp, then its seconds.
  const seconds = typeof _data === 'string' ? /^82([0-9a-f]{8})/i.exec(_data)?.[1] : undefined;
  return seconds === undefined ? undefined : new Date(Number.parseInt(seconds, 16) * 1000);
}

function timeOf(timestamp: unknown): Date | undefined {
  const isTimestamp = typeof timestamp === 'object' && timestamp !== null && 'getHighBits' in timestamp;
  if (!isTimestamp || typeof timestamp.getHighBits !== 'function') return undefined;
  const seconds: unknown = timestamp.getHighBits();
  return typeof seconds === 'number' ? new Date(seconds * 1000) : undefined;
}
