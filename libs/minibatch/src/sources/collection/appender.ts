import type { Document } from 'bson';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import type { SourceAppendOptions, SourceTarget } from '../source.interface.js';
import type { ResolvedReading } from './collection-source.options.js';
import { idText, messageId } from './dedupe-id.js';
import { type CollectionPosition, encodePosition } from './position.js';

/** A document on its way to becoming a message. */
export interface ReadDocument {
  readonly document: Document;
  readonly dedupeId: string;
}

interface Mapped {
  readonly data: unknown;
  readonly options: Omit<SourceAppendOptions, 'position'>;
}

/** Makes messages of documents and appends them with the position behind them. */
export class Appender {
  constructor(
    readonly namespace: string,
    private readonly target: SourceTarget,
    private readonly reading: Pick<ResolvedReading, 'where' | 'map' | 'key'>,
    readonly signal: AbortSignal,
  ) {}

  /** Resolves when messages and position are stored, which is when the next ones may be read; or when the signal aborts. */
  async append(documents: readonly ReadDocument[], position: CollectionPosition): Promise<void> {
    const messages = documents.flatMap((read) => this.mapped(read));
    const write = this.target.appendMany(
      messages.map(({ data }) => data),
      { each: (_, index) => messages[index]?.options ?? {}, position: encodePosition(this.namespace, position) },
    );
    await unlessAborted(write, this.signal);
  }

  private mapped({ document, dedupeId }: ReadDocument): Mapped[] {
    const data = this.call('map', document, this.reading.map);
    if (data === undefined) return [];
    const key = this.reading.key && this.call('key', document, this.reading.key);
    return [
      { data, options: { dedupeId: messageId(this.target.source, dedupeId), ...(key === undefined ? {} : { key }) } },
    ];
  }

  private call<V>(option: string, document: Document, work: (document: Document) => V): V {
    try {
      return work(document);
    } catch (cause) {
      const id: unknown = document['_id'];
      throw new MinibatchError(
        ErrorCode.SourceFailed,
        `${this.reading.where}: ${option} threw for the document ${idText(id)}: ${messageOf(cause)}. It is read again until ${option} takes it; ${option === 'map' ? 'return undefined to leave it out' : 'return undefined for no key'}`,
        { cause, details: { option, id: idText(id) } },
      );
    }
  }
}

/** An append may wait for room for as long as consumers like; a source has a second to stop. */
export function unlessAborted<R>(promise: Promise<R>, signal: AbortSignal): Promise<R | undefined> {
  return new Promise((resolve, reject) => {
    const aborted = () => resolve(undefined);
    if (signal.aborted) aborted();
    signal.addEventListener('abort', aborted, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
}
