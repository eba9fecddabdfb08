import { unlessAborted } from '../../common/abort.js';
import type { Document } from 'bson';
import { asError } from '../../errors/error-text.js';
import type { Mutable } from '../../common/mutable.js';
import type { MessageName, MessageProblems } from '../message-problems.js';
import { appendStorable, ask, type Outgoing, type Refused } from '../outgoing.js';
import type { MutableCounters } from '../source-counters.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import type { ResolvedReading } from './collection-source.options.js';
import { idText, messageId } from './dedupe-id.js';
import type { FoundDocument } from './found-document.js';
import { type CollectionPosition, encodePosition } from './position.js';

/** A document on its way to becoming a message. */
export interface ReadDocument extends FoundDocument {
  readonly dedupeId: string;
  /** Why a cursor cannot tell where the document stands. */
  readonly unplaced?: Error;
}

interface OutgoingDocument extends Outgoing {
  readonly document: Document;
}

type RefusedDocument = Refused<{ readonly document: Document }>;

/** How a document of a collection is named. */
export function nameOfDocument(namespace: string): (document: Document) => MessageName {
  return (document) => {
    const id = idText(document['_id']);
    return { text: `the document ${id} of ${namespace}`, details: { id } };
  };
}

/** Makes messages of documents and appends them with the position behind them. */
export class DocumentAppender {
  constructor(
    readonly namespace: string,
    private readonly target: SourceTarget,
    private readonly reading: Pick<ResolvedReading, 'where' | 'map' | 'key'>,
    private readonly problems: MessageProblems<Document>,
    private readonly counters: MutableCounters,
    readonly signal: AbortSignal,
  ) {}

  /**
   * Resolves when messages and position are stored, which is when the next ones may be read; or when the signal aborts. A document that
   * the stream cannot take does not hold up the others: they are stored, then `unstorable` decides, then the position moves on.
   *
   * @throws MinibatchError of the append; as {@link MessageProblems.unstorable}
   */
  async append(documents: readonly ReadDocument[], position: CollectionPosition): Promise<void> {
    const { target, signal } = this;
    this.counters.received += documents.length;
    const refused: RefusedDocument[] = [];
    const messages = this.outgoing(documents, refused);
    const stored = encodePosition(this.namespace, position);
    const write = appendStorable(target, messages, undefined, refused.length === 0 ? stored : undefined);
    const found = await unlessAborted(write, signal);
    if (found === undefined) return;
    this.counters.appended += messages.length - found.length;
    refused.push(...found);
    if (refused.length === 0) return;
    for (const { message, error } of refused) {
      await unlessAborted(this.problems.unstorable(message.document, error), signal);
      if (signal.aborted) return;
    }
    await unlessAborted(target.appendMany([], { position: stored }), signal);
  }

  private outgoing(documents: readonly ReadDocument[], refused: RefusedDocument[]): readonly OutgoingDocument[] {
    const messages: OutgoingDocument[] = [];
    for (const read of documents) {
      try {
        const message = this.messageOf(read);
        if (message) messages.push(message);
      } catch (error) {
        refused.push({ message: read, error: asError(error) });
      }
    }
    return messages;
  }

  /** Undefined for a document that `map` leaves out. */
  private messageOf({ document, dedupeId, undecodable, unplaced }: ReadDocument): OutgoingDocument | undefined {
    const refusal = undecodable ?? unplaced;
    if (refusal) throw refusal;
    const { where, map, key } = this.reading;
    const data = ask(where, 'map', () => map(document));
    if (data === undefined) return undefined;
    const options: Mutable<Outgoing['options']> = { dedupeId: messageId(this.target.source, dedupeId) };
    const keyed = key && ask(where, 'key', () => key(document));
    if (keyed !== undefined) options.key = keyed;
    return { document, data, options };
  }
}
