import { calculateObjectSize, type Document, serialize } from 'bson';
import { batchesOf } from '../../common/batches.js';
import { ErrorCode, messageOf, MinibatchError, ResultRefused } from '../../errors/minibatch.error.js';
import { FailureReason } from '../failure-reason.js';
import { idText } from './result-documents.js';

/** The server takes no larger document; sending one breaks the connection on some. */
const LARGEST = 16 * 1024 * 1024;

/** Bytes in one write; a message to the server has a limit too. */
const BATCH_BYTES = 16 * 1024 * 1024;

/** A document of a result. */
export interface ResultDocument {
  /** Its place in the result. */
  readonly index: number;
  readonly document: Document;
  /** It may be that it replaces one. Else one of that id is there only if this one was written before. */
  readonly replaces: boolean;
}

/**
 * Cuts the documents into writes.
 *
 * @throws MinibatchError `MessageTooLarge` or `ResultRefused`, before anything is written
 */
export function cutIntoBatches(
  where: string,
  documents: readonly ResultDocument[],
  most: number,
): (readonly ResultDocument[])[] {
  const batches = batchesOf(documents, { items: most, bytes: BATCH_BYTES }, (numbered) => {
    const size = sizeOf(where, numbered);
    if (size > LARGEST) throw tooLarge(where, numbered, size);
    return size;
  });
  return batches.map(({ items }) => items);
}

function sizeOf(where: string, numbered: ResultDocument): number {
  try {
    return calculateObjectSize(numbered.document, { ignoreUndefined: true });
  } catch (cause) {
    throw unencodable(where, numbered.index, cause);
  }
}

/**
 * The first of the documents that BSON has no form for, as an error; undefined if each can be encoded. Dear: for a write that failed
 * before it reached the server.
 */
export function unencodableOf(where: string, documents: readonly ResultDocument[]): ResultRefused | undefined {
  for (const { index, document } of documents) {
    try {
      serialize(document, { ignoreUndefined: true });
    } catch (cause) {
      return unencodable(where, index, cause);
    }
  }
  return undefined;
}

export function unencodable(where: string, index: number | undefined, cause: unknown): ResultRefused {
  const which = index === undefined ? 'the result' : `document ${index} of the result`;
  return new ResultRefused(`${where}: ${which} cannot be stored by MongoDB: ${messageOf(cause)}`, {
    cause,
    details: { reason: FailureReason.Unencodable, ...(index === undefined ? {} : { index }) },
  });
}

function tooLarge(where: string, { index, document }: ResultDocument, size: number): MinibatchError {
  return new MinibatchError(
    ErrorCode.MessageTooLarge,
    `${where}: document ${index} of the result (_id ${idText(document['_id'])}) has ${size} bytes, and MongoDB takes ${LARGEST}: return smaller results, or an array of them`,
    { details: { index, bytes: size, allowed: LARGEST } },
  );
}
