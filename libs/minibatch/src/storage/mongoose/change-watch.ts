import { setTimeout as sleep } from 'node:timers/promises';
import type { mongo } from 'mongoose';
import type { Collections } from './collections.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

type Change = mongo.ChangeStreamInsertDocument<BufferDocument> | mongo.ChangeStreamUpdateDocument<BufferDocument>;
type Changes = mongo.ChangeStream<BufferDocument, Change>;

/** Appends, and messages that a redrive shows (see `redrive.ts`). */
const PIPELINE = [
  {
    $match: {
      $or: [
        { operationType: 'insert', 'fullDocument.processed': false },
        { operationType: 'update', 'updateDescription.updatedFields.redriven': { $exists: true } },
      ],
    },
  },
  { $project: { 'fullDocument.stream': 1, 'updateDescription.updatedFields.redriven': 1 } },
];

/** Longest wait of the server for a change, milliseconds. */
const AWAIT = 1000;
/** Some servers do not wait: then this is the pause between two looks. */
const PAUSE = 20;
/** Pauses between attempts to open a change stream that broke. */
const REOPEN = { base: 1000, max: 30_000 };

/** Wakes consumers by the server's change stream. */
export class ChangeWatch {
  constructor(private readonly collections: Collections) {}

  /** Resolves with false if the server has no change streams; any error at the first look means so. */
  async start(wake: (stream: string) => void, signal: AbortSignal): Promise<boolean> {
    const changes = await this.open(wake);
    if (changes) void this.follow(changes, wake, signal);
    return changes !== undefined;
  }

  private async open(wake: (stream: string) => void): Promise<Changes | undefined> {
    let changes: Changes | undefined;
    try {
      changes = this.collections.buffer.watch(PIPELINE, {
        maxAwaitTimeMS: AWAIT,
        // A change stream takes no other one, and the collection's own is `local`.
        readConcern: { level: 'majority' },
      });
      tell(await changes.tryNext(), wake);
      return changes;
    } catch {
      await changes?.close().catch(() => undefined);
      return undefined;
    }
  }

  private async follow(first: Changes, wake: (stream: string) => void, signal: AbortSignal): Promise<void> {
    let changes = first;
    const close = () => void changes.close().catch(() => undefined);
    signal.addEventListener('abort', close, { once: true });
    while (!signal.aborted) {
      try {
        await this.look(changes, wake, signal);
      } catch {
        close();
        const again = await this.reopen(wake, signal);
        if (!again) return;
        changes = again;
        if (signal.aborted) close();
      }
    }
  }

  private async look(changes: Changes, wake: (stream: string) => void, signal: AbortSignal): Promise<void> {
    const began = performance.now();
    const change = await changes.tryNext();
    tell(change, wake);
    if (!change && performance.now() - began < PAUSE) await pause(PAUSE, signal);
  }

  /** The driver resumes by itself what can be resumed; after a gap everybody has to look. */
  private async reopen(wake: (stream: string) => void, signal: AbortSignal): Promise<Changes | undefined> {
    for (let wait = REOPEN.base; !signal.aborted; wait = Math.min(wait * 2, REOPEN.max)) {
      await pause(wait, signal);
      const changes = signal.aborted ? undefined : await this.open(wake);
      if (!changes) continue;
      const streams = await this.collections.stream
        .find({}, { projection: { name: 1 } })
        .toArray()
        .catch(() => []);
      for (const { name } of streams) wake(name);
      return changes;
    }
    return undefined;
  }
}

function tell(change: Change | null, wake: (stream: string) => void): void {
  if (!change) return;
  const stream = 'updateDescription' in change ? change.updateDescription.updatedFields?.redriven : undefined;
  const name = stream ?? change.fullDocument?.stream;
  if (name !== undefined) wake(name);
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal, ref: false }).catch(() => undefined);
}
