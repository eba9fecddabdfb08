import type { mongo } from 'mongoose';
import { unlessAborted } from './appender.js';
import { changePipeline } from './change-pipeline.js';
import type { ResolvedReading } from './collection-source.options.js';
import type { ChangeStart } from './position.js';
import { serverFacts } from './server-facts.js';

/** The part of an event that is used. */
export interface ChangeEvent {
  /** The resume token. */
  readonly _id: unknown;
  readonly operationType: string;
  readonly fullDocument?: mongo.BSON.Document | null;
  readonly documentKey?: { readonly _id?: unknown };
  /** BSON timestamp; not all servers tell it. */
  readonly clusterTime?: unknown;
}

/** How long the server holds an empty answer back; it answers at once when something comes. */
const MAX_AWAIT = 500;

/** An open change stream, read in batches. Stops waiting for the server when the signal aborts. */
export class ChangeStream {
  /** What came with the first look. */
  private ahead: ChangeEvent | undefined;

  private constructor(
    private readonly stream: mongo.ChangeStream<mongo.BSON.Document>,
    private readonly signal: AbortSignal,
    private readonly batch: number,
    private start: ChangeStart,
  ) {}

  /** Opens the stream and waits for the server's first answer, which is where missing support and lost tokens show. */
  static async open(
    collection: mongo.Collection,
    reading: Pick<ResolvedReading, 'operations' | 'filter' | 'projection' | 'batch'>,
    start: ChangeStart | undefined,
    signal: AbortSignal,
    deletes = false,
  ): Promise<ChangeStream> {
    const { operations, filter, projection, batch } = reading;
    // Asked before: an event after it may come twice, one before it would be lost.
    const before = start ?? { startAtOperationTime: (await serverFacts(collection, signal)).operationTime };
    const stream = collection.watch<mongo.BSON.Document>(changePipeline(operations, filter, projection, deletes), {
      ...(start as mongo.ChangeStreamOptions | undefined),
      ...(operations.includes('update') ? { fullDocument: 'updateLookup' } : {}),
      batchSize: batch,
      maxAwaitTimeMS: MAX_AWAIT,
      readPreference: 'primary',
      // Servers refuse any other, whatever the connection says.
      readConcern: { level: 'majority' },
    });
    const opened = new ChangeStream(stream, signal, batch, before);
    try {
      opened.ahead = await opened.next();
      if (!opened.ahead) opened.moveTo(stream.resumeToken);
    } catch (error) {
      await opened.close();
      throw error;
    }
    return opened;
  }

  /** Behind all events that `read` has given. */
  get position(): ChangeStart {
    return this.start;
  }

  /** The events that are there, at most a batch; none if nothing came for a while, or the signal aborted. */
  async read(): Promise<readonly ChangeEvent[]> {
    const events: ChangeEvent[] = [];
    const first = this.ahead ?? (await this.next());
    this.ahead = undefined;
    if (first) events.push(first);
    // No look beyond what has arrived: that would hold back what has.
    while (events.length > 0 && events.length < this.batch && this.stream.bufferedCount() > 0) {
      const event = await this.next();
      if (event) events.push(event);
      else break;
    }
    // Without an event the server still tells how far it has looked.
    this.moveTo(events.at(-1)?._id ?? this.stream.resumeToken);
    return events;
  }

  private moveTo(token: unknown): void {
    if (token !== undefined && token !== null) this.start = { startAfter: token };
  }

  async close(): Promise<void> {
    // It waits for the server; whoever stops has no time for that.
    await unlessAborted(
      this.stream.close().catch(() => undefined),
      this.signal,
    );
  }

  private async next(): Promise<ChangeEvent | undefined> {
    const event: ChangeEvent | null | undefined = await unlessAborted(this.stream.tryNext(), this.signal);
    return event ?? undefined;
  }
}
