import { EJSON } from 'bson';
import type { ReadDocument } from './document-appender.js';
import type { ChangeEvent } from './change-stream.js';
import { dedupeId } from './dedupe-id.js';

/**
 * The document of an event, with a dedupe id of its own, so that a document that was deleted and inserted again is another message. An
 * insert that a snapshot may have read too (`inSnapshot`) has the id that the snapshot gives the document, so where they overlap nothing
 * doubles. Undefined if there is none: updated and deleted before the look-up.
 */
export function documentOf(namespace: string, event: ChangeEvent, inSnapshot: boolean): ReadDocument | undefined {
  const document = event.fullDocument;
  if (!document) return undefined;
  const id: unknown = event.documentKey?._id ?? document['_id'];
  const found = event.undecodable ? { document, undecodable: event.undecodable } : { document };
  if (event.operationType === 'insert' && inSnapshot) return { ...found, dedupeId: dedupeId(namespace, id) };
  // By the token and not by the cluster time: the changes of one transaction share that.
  return { ...found, dedupeId: dedupeId(namespace, id, event.operationType, tokenText(event._id)) };
}

function tokenText(token: unknown): string {
  if (typeof token === 'object' && token !== null && '_data' in token && typeof token._data === 'string') {
    return token._data;
  }
  return EJSON.stringify({ token }, { relaxed: true });
}
