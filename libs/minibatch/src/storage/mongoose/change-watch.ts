import type { mongo } from 'mongoose';
import { backoff } from '../../common/backoff.js';
import { BACKGROUND_CLOCK, delay } from '../../common/clock.js';
import type { StreamWatcher } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

type Change =
  | mongo.ChangeStreamInsertDocument<BufferDocument>
  | mongo.ChangeStreamUpdateDocument<BufferDocument>
  | mongo.ChangeStreamInvalidateDocument;
type Changes = mongo.ChangeStream<BufferDocument, Change>;

/** How long the server waits for a change, in milliseconds. */
const AWAIT = 1000;
/** The pause between two requests to a server that does not wait, in milliseconds. */
const PAUSE = 20;
/** Pauses between attempts to open a change stream that was refused or that failed. */
const REOPEN = { base: 1000, max: 30_000, jitter: 0.3 };

/** Error codes of servers without change streams. */
const UNSUPPORTED = new Set<unknown>([
  40573, // the stage is only supported on replica sets
  40324, // unrecognized stage
]);

/**
 * Wakes consumers by the server's change stream.
 *
 * It is cheap, because the server sends little: only for streams that are consumed here, only the name of the stream, and nothing for
 * messages that this process has appended. Those are announced within the process (`localAppends`). Messages appended in a transaction
 * always come by the change stream, because the process does not know when they are committed.
 */
export class ChangeWatch {
  constructor(
    private readonly collections: Pick<Collections, 'buffer'>,
    private readonly parts: {
      /** Bytes 4 to 8 of the ids that this process creates, in hexadecimal. */
      readonly origin: string;
      /** A standalone server has no change streams, whatever it answers. */
      isStandalone(): boolean;
      /** Called when the buffer was dropped or renamed. */
      removed(): void;
    },
  ) {}

  /** Resolves when the signal aborts, or when the server turns out to have no change streams. */
  async watch(streams: readonly string[], watcher: StreamWatcher, signal: AbortSignal): Promise<void> {
    const leave = localAppends.follow(streams, (stream) => watcher.wake(stream));
    try {
      for (let failures = 0; !signal.aborted;) {
        try {
          await this.follow(streams, watcher, signal, () => (failures = 0));
        } catch (error) {
          if (signal.aborted || this.isUnsupported(error)) return;
          if (error instanceof Invalidated) this.parts.removed();
          else watcher.failed(error);
          failures += 1;
          await pause(failures === 1 ? PAUSE : backoff(REOPEN, failures - 1), signal);
        }
      }
    } finally {
      leave();
    }
  }

  private async follow(
    streams: readonly string[],
    watcher: StreamWatcher,
    signal: AbortSignal,
    opened: () => void,
  ): Promise<void> {
    const changes: Changes = this.collections.buffer.watch(this.pipeline(streams), {
      maxAwaitTimeMS: AWAIT,
      // The only level a change stream accepts; that of the collection is `local`.
      readConcern: { level: 'majority' },
    });
    const close = () => void changes.close().catch(() => undefined);
    signal.addEventListener('abort', close, { once: true });
    try {
      // The first request opens it.
      tell(await changes.tryNext(), watcher);
      if (signal.aborted) return;
      opened();
      watcher.started();
      // Messages may have arrived before it was open.
      for (const stream of streams) watcher.wake(stream);
      while (!signal.aborted) await this.look(changes, watcher, signal);
    } finally {
      signal.removeEventListener('abort', close);
      close();
    }
  }

  private async look(changes: Changes, watcher: StreamWatcher, signal: AbortSignal): Promise<void> {
    const began = performance.now();
    const change = await changes.tryNext();
    tell(change, watcher);
    if (changes.closed) throw new Invalidated();
    if (!change && performance.now() - began < PAUSE) await pause(PAUSE, signal);
  }

  private pipeline(streams: readonly string[]): mongo.Document[] {
    // Other writers may use any `_id`: no value of it may make the expression fail, which would end the change stream.
    const id = { $convert: { input: '$fullDocument._id', to: 'string', onError: '', onNull: '' } };
    const isOthers = { $expr: { $ne: [{ $substrCP: [id, 8, 10] }, this.parts.origin] } };
    const isInTransaction = { txnNumber: { $exists: true } };
    return [
      {
        $match: {
          $or: [
            {
              operationType: 'insert',
              'fullDocument.stream': { $in: streams },
              'fullDocument.processed': false,
              $or: [isInTransaction, isOthers],
            },
            // Messages that a redrive makes visible (see `redrive.ts`).
            { operationType: 'update', 'updateDescription.updatedFields.redriven': { $in: streams } },
            { operationType: 'invalidate' },
          ],
        },
      },
      { $project: { operationType: 1, 'fullDocument.stream': 1, 'updateDescription.updatedFields.redriven': 1 } },
    ];
  }

  private isUnsupported(error: unknown): boolean {
    if (!(error instanceof Error) || error.name !== 'MongoServerError') return false;
    return this.parts.isStandalone() || UNSUPPORTED.has(Reflect.get(error, 'code'));
  }
}

/** Announces what is appended in this process to all of its stores: an application may have several on one database. */
class LocalAppends {
  private readonly followers = new Set<{ readonly streams: ReadonlySet<string>; wake(stream: string): void }>();

  follow(streams: readonly string[], wake: (stream: string) => void): () => void {
    const follower = { streams: new Set(streams), wake };
    this.followers.add(follower);
    return () => void this.followers.delete(follower);
  }

  /** Called when messages have been stored. */
  tell(messages: readonly { readonly stream: string }[]): void {
    if (this.followers.size === 0) return;
    let last: string | undefined;
    for (const { stream } of messages) {
      // Usually all are on one stream.
      if (stream === last) continue;
      last = stream;
      for (const follower of this.followers) if (follower.streams.has(stream)) follower.wake(stream);
    }
  }
}

export const localAppends = new LocalAppends();

/** The change stream has ended and has to be opened again. */
class Invalidated extends Error {}

function tell(change: Change | null, watcher: StreamWatcher): void {
  if (!change) return;
  if (change.operationType === 'invalidate') throw new Invalidated();
  const name =
    change.operationType === 'update' ? change.updateDescription.updatedFields?.redriven : change.fullDocument.stream;
  if (name !== undefined) watcher.wake(name);
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return delay(BACKGROUND_CLOCK, ms, signal);
}
