import { unlessAborted } from '../../common/abort.js';
import type { Document } from 'bson';
import { asError } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import type { Mutable } from '../../common/mutable.js';
import { appendStorable, ask, named, type Outgoing, type Refused } from '../outgoing.js';
import type { SourceTarget } from '../../sources/source.interface.js';
import type { ResolvedReading } from './collection-source.options.js';
import { idText, messageId } from './dedupe-id.js';
import type { DocumentCounts } from './document-counts.js';
import type { FoundDocument } from './found-document.js';
import { type CollectionPosition, encodePosition } from './position.js';

/** A document on its way to becoming a message. */
export interface ReadDocument extends FoundDocument {
  readonly dedupeId: string;
  /** Why a cursor can't tell where the document stands. */
  readonly unplaced?: Error;
}

interface OutgoingDocument extends Outgoing {
  readonly document: Document;
}

type RefusedDocument = Refused<{ readonly document: Document }>;

/** Makes messages of documents and appends them with the position behind them. */
export class DocumentAppender {
  constructor(
    readonly namespace: string,
    private readonly target: SourceTarget,
    private readonly reading: Pick<ResolvedReading, 'where' | 'map' | 'key' | 'unstorable'>,
    private readonly counts: DocumentCounts,
    readonly signal: AbortSignal,
  ) {}

  /**
   * Resolves when messages and position are stored, which is when the next ones may be read; or when the signal aborts. A document that
   * the stream can't take does not hold the others up: they are stored, then `unstorable` decides, then the position moves on.
   *
   * @throws MinibatchError of the append; `SourceFailed` if `unstorable` threw; what a document was refused with, if `unstorable` says so
   */
  async append(documents: readonly ReadDocument[], position: CollectionPosition): Promise<void> {
    const { target, signal } = this;
    const refused: RefusedDocument[] = [];
    const messages = this.outgoing(documents, refused);
    const stored = encodePosition(this.namespace, position);
    const write = appendStorable(target, messages, undefined, refused.length === 0 ? stored : undefined);
    const found = await unlessAborted(write, signal);
    if (found === undefined) return;
    refused.push(...found);
    if (refused.length === 0) return;
    for (const { message, error } of refused) {
      await unlessAborted(this.giveUp(message.document, error), signal);
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

  private async giveUp(document: Document, refusal: Error): Promise<void> {
    const { where, unstorable } = this.reading;
    const id = idText(document['_id']);
    const error = named(`${where}: the document ${id} of ${this.namespace}`, refusal, { id });
    if (unstorable === 'fail') throw error;
    if (unstorable === 'skip') {
      this.counts.leftOut(messageOf(error));
      return;
    }
    try {
      await unstorable(document, error);
    } catch (cause) {
      throw new MinibatchError(
        ErrorCode.SourceFailed,
        `${where}: unstorable failed for the document ${id} of ${this.namespace}, which will be delivered again: ${messageOf(cause)}`,
        { cause, details: { option: 'unstorable', id } },
      );
    }
    this.counts.givenAway(messageOf(error));
  }
}
