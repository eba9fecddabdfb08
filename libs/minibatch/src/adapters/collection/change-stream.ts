import type { mongo } from 'mongoose';
import { unlessAborted } from '../../common/abort.js';
import { changePipeline, WITHOUT_DOCUMENT } from './change-pipeline.js';
import type { ResolvedReading } from './collection-source.options.js';
import { undecodable, withRegExps } from './found-document.js';
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
  /** Why the document could not be decoded; then `fullDocument` has only its `_id`. */
  readonly undecodable?: Error;
}

type DriverStream = mongo.ChangeStream<mongo.BSON.Document>;

/** Opens a stream of the driver, with more stages behind the others. */
type Watch = (from: ChangeStart | undefined, more?: readonly mongo.BSON.Document[]) => DriverStream;

/**
 * How many events have arrived. Of the driver below 7.2 only the cursor tells; if nothing does, events are read one by one.
 */
function bufferedCount(stream: DriverStream & { readonly cursor?: { bufferedCount?(): number } }): number {
  if (typeof stream.bufferedCount === 'function') return stream.bufferedCount();
  return stream.cursor?.bufferedCount?.() ?? 0;
}

/** Looks for an event of which it is known that it is there. */
const MOST_LOOKS = 10;

/** How long the server holds an empty answer back; it answers at once when something comes. */
const MAX_AWAIT = 500;

/** An open change stream, read in batches. Stops waiting for the server when the signal aborts. */
export class ChangeStream {
  /** What came with the first look. */
  private ahead: ChangeEvent | undefined;
  /** Behind all events that the server has given. */
  private reached: ChangeStart;

  private constructor(
    private stream: DriverStream,
    private readonly watch: Watch,
    private readonly signal: AbortSignal,
    private readonly batch: number,
    private start: ChangeStart,
  ) {
    this.reached = start;
  }

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
    const pipeline = changePipeline(operations, filter, projection, deletes);
    const watch: Watch = (from, more = []) =>
      collection.watch<mongo.BSON.Document>([...pipeline, ...more], {
        ...(from as mongo.ChangeStreamOptions | undefined),
        ...(operations.includes('update') ? { fullDocument: 'updateLookup' } : {}),
        batchSize: batch,
        maxAwaitTimeMS: MAX_AWAIT,
        readPreference: 'primary',
        // Servers refuse any other, whatever the connection says.
        readConcern: { level: 'majority' },
        // The driver decodes whole events, and JavaScript cannot compile all regular expressions of others.
        bsonRegExp: true,
      });
    const opened = new ChangeStream(watch(start), watch, signal, batch, before);
    try {
      opened.ahead = await opened.next();
      if (!opened.ahead) opened.moveTo(opened.stream.resumeToken);
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
    while (events.length > 0 && events.length < this.batch && bufferedCount(this.stream) > 0) {
      const event = await this.next();
      if (event) events.push(event);
      else break;
    }
    // Without an event the server still tells how far it has looked.
    this.moveTo(events.at(-1)?._id ?? this.stream.resumeToken);
    return events;
  }

  private moveTo(token: unknown): void {
    if (token === undefined || token === null) return;
    this.start = { startAfter: token };
    this.reached = this.start;
  }

  async close(): Promise<void> {
    await this.closeOne(this.stream);
  }

  private async closeOne(stream: DriverStream): Promise<void> {
    // It waits for the server, and a shutdown has no time for that.
    await unlessAborted(
      stream.close().catch(() => undefined),
      this.signal,
    );
  }

  private async next(): Promise<ChangeEvent | undefined> {
    try {
      return this.given(await unlessAborted(this.stream.tryNext(), this.signal));
    } catch (error) {
      if (!isUndecodable(error)) throw error;
      return await this.nextAfter(error);
    }
  }

  private given(event: ChangeEvent | null | undefined): ChangeEvent | undefined {
    if (!event) return undefined;
    this.reached = { startAfter: event._id };
    return event.fullDocument ? { ...event, fullDocument: withRegExps(event.fullDocument) } : event;
  }

  /**
   * The driver has closed the stream over an event that it cannot decode, and would do so every time. That event is read without its
   * document; then the stream continues behind it.
   */
  private async nextAfter(error: unknown): Promise<ChangeEvent | undefined> {
    try {
      // From here it need not be the same event: a stream that was opened without a position begins with earlier ones.
      await this.reopen(this.reached);
      return this.given(await this.first(this.stream));
    } catch (again) {
      if (!isUndecodable(again)) throw again;
    }
    const bare = this.watch(this.reached, [WITHOUT_DOCUMENT]);
    try {
      const event = await this.first(bare);
      if (!event) return undefined;
      await this.reopen({ startAfter: event._id });
      this.reached = { startAfter: event._id };
      const { documentKey } = event;
      return documentKey ? { ...event, fullDocument: { ...documentKey }, undecodable: undecodable(error) } : event;
    } finally {
      await this.closeOne(bare);
    }
  }

  private async reopen(start: ChangeStart): Promise<void> {
    await this.close();
    this.stream = this.watch(start);
  }

  /** A server may answer before it has looked for the events. */
  private async first(stream: DriverStream): Promise<ChangeEvent | undefined> {
    for (let looks = 0; looks < MOST_LOOKS && !this.signal.aborted; looks += 1) {
      const event: ChangeEvent | null | undefined = await unlessAborted(stream.tryNext(), this.signal);
      if (event) return event;
    }
    return undefined;
  }
}

/** The event cannot be decoded, or is larger than a reply may be. */
function isUndecodable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return error.name === 'BSONError' || (error as { readonly code?: unknown }).code === TOO_LARGE;
}

/** BSONObjectTooLarge */
const TOO_LARGE = 10334;
