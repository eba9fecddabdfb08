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

/** Longest wait of the server for a change, milliseconds. */
const AWAIT = 1000;
/** Some servers do not wait: then this is the pause between two looks. */
const PAUSE = 20;
/** Pauses between attempts to open a change stream that was refused, or broke. */
const REOPEN = { base: 1000, max: 30_000, jitter: 0.3 };

/** Codes by which a server says that it has no change streams. */
const UNSUPPORTED = new Set<unknown>([
  40573, // the stage is only supported on replica sets
  40324, // unrecognized stage
]);

/**
 * Wakes consumers by the server's change stream.
 *
 * It costs little, because the server sends little: only messages of the streams that are consumed here, of these only the stream's
 * name, and none that this process has appended itself. Those are told of in the process (`appended`). What was appended in a
 * transaction comes by the change stream all the same: nobody here knows when it is committed.
 */
export class ChangeWatch {
  constructor(
    private readonly collections: Collections,
    private readonly parts: {
      /** Bytes 4 to 8 of the ids that this process makes, in hexadecimal. */
      readonly origin: string;
      /** A server that is no replica set has no change streams, whatever it answers. */
      isStandalone(): boolean;
      /** The buffer was dropped or renamed. */
      removed(): void;
    },
  ) {}

  /** Resolves when the signal aborts, or as soon as it is clear that the server has no change streams. */
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
      // A change stream takes no other one, and the collection's own is `local`.
      readConcern: { level: 'majority' },
    });
    const close = () => void changes.close().catch(() => undefined);
    signal.addEventListener('abort', close, { once: true });
    try {
      // The first look opens it.
      tell(await changes.tryNext(), watcher);
      if (signal.aborted) return;
      opened();
      watcher.started();
      // Nobody has told what came before.
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
            // Messages that a redrive shows (see `redrive.ts`).
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

/** What is appended in this process, told to all stores of it: an application may have several, on one database. */
class LocalAppends {
  private readonly followers = new Set<{ readonly streams: ReadonlySet<string>; wake(stream: string): void }>();

  follow(streams: readonly string[], wake: (stream: string) => void): () => void {
    const follower = { streams: new Set(streams), wake };
    this.followers.add(follower);
    return () => void this.followers.delete(follower);
  }

  /** Messages have been stored. */
  tell(messages: readonly { readonly stream: string }[]): void {
    if (this.followers.size === 0) return;
    let last: string | undefined;
    for (const { stream } of messages) {
      // Mostly they are all on one.
      if (stream === last) continue;
      last = stream;
      for (const follower of this.followers) if (follower.streams.has(stream)) follower.wake(stream);
    }
  }
}

export const localAppends = new LocalAppends();

/** The change stream has ended, and another one is to be opened. */
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
