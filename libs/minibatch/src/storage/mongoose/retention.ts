import type { mongo } from 'mongoose';
import type { SweepResult, SweepTimes } from '../stream-store.interface.js';
import type { BufferPages } from './blocks.js';
import type { Collections } from './collections.js';
import { toTombstone, type MessageRemoval } from './message-removal.js';
import { MESSAGES } from './foreign.js';
import { moveMisplaced } from './misplaced.js';
import type { BufferDocument } from './schemas/buffer.schema.js';
import { guarded } from './store-errors.js';
import type { StateRemoval } from './state-removal.js';
import type { Streams } from './streams.js';

/** Number of messages that expire together. */
const EXPIRE = 1_000;

/**
 * Removes what was settled before a given time. Only what this package has settled: messages that Python has processed have no such time.
 */
export class Retention {
  constructor(
    private readonly collections: Pick<Collections, 'buffer' | 'consumer' | 'window'>,
    private readonly streams: Streams,
    private readonly removal: MessageRemoval,
    private readonly pages: BufferPages,
    private readonly state: StateRemoval,
  ) {}

  async sweep(stream: string, before: SweepTimes): Promise<SweepResult> {
    return guarded(`sweep '${stream}'`, async () => {
      await this.removal.removeLateMarks(stream);
      const info = await this.streams.describe(stream);
      if (info) {
        await moveMisplaced(this.collections, this.removal, info);
        await this.removal.removeLeftovers(stream, info.groups);
      }
      const { messages, windows } = before.kept ? await this.kept(stream, before.kept) : { messages: 0, windows: 0 };
      if (before.tombstones) await this.state.sweep();
      const tombstones = before.tombstones ? await this.tombstones(stream, before.tombstones) : 0;
      return { tombstones, messages, windows };
    });
  }

  /** Reads the groups before each delete: as soon as one is registered, the messages belong to it. */
  async expire(stream: string, before?: Date): Promise<number> {
    const unwanted = before ? { $or: [{ cleared: true }, { created: { $lt: before } }] } : { cleared: true };
    return guarded(`remove old messages of '${stream}'`, async () => {
      for (let total = 0; ;) {
        const old = await this.collections.buffer
          .find(
            this.pages.without([], {
              ...MESSAGES,
              stream,
              processed: false,
              ...unwanted,
              redriven: { $exists: false },
            }),
            { projection: { dedupeKey: 1 }, limit: EXPIRE, batchSize: EXPIRE + 1 },
          )
          .toArray();
        const info = await this.streams.describe(stream);
        if (old.length === 0 || info === undefined || info.groups.length > 0) return total;
        await this.removal.leave(
          old.map(({ _id, dedupeKey }) => ({ _id, deduped: dedupeKey !== undefined, keep: false })),
        );
        total += old.length;
      }
    });
  }

  private async kept(stream: string, time: Date): Promise<{ messages: number; windows: number }> {
    const { buffer, window } = this.collections;
    const old: mongo.Filter<BufferDocument> = { stream, processed: true, settled: { $lt: time }, keep: true };
    // A message with a dedupe id stays as a tombstone, which expires separately.
    const buried = await buffer.updateMany({ ...old, dedupeKey: { $exists: true } }, toTombstone());
    const removed = await buffer.deleteMany(old);
    const windows = await window.deleteMany({ stream, processed: true, settled: { $lt: time } });
    return { messages: buried.modifiedCount + removed.deletedCount, windows: windows.deletedCount };
  }

  private async tombstones(stream: string, time: Date): Promise<number> {
    const { deletedCount } = await this.collections.buffer.deleteMany({
      stream,
      processed: true,
      settled: { $lt: time },
      keep: { $exists: false },
    });
    return deletedCount;
  }
}
