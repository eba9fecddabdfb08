import type { mongo } from 'mongoose';
import type { ConsumerKey, ReadWindow, WindowPage, WindowRecord } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, inRanges } from './consumer-document.js';
import type { WindowDocument } from './schemas/window.schema.js';
import { guarded } from './store-errors.js';
import { isWindow, toWindowRecords } from './window-codec.js';

/** The data of a kept window may have 15 MiB and are not needed here. */
const WITHOUT_DATA = { data: 0, query: 0 };

/** Reads windows for inspection, without adopting or changing anything. */
export class WindowReads {
  constructor(private readonly collections: Pick<Collections, 'consumer' | 'window'>) {}

  /** All in one page, because the consumer has them in memory as well. Late claims of a former holder are void and left out. */
  async claimed(key: ConsumerKey): Promise<WindowPage> {
    const { consumer, window } = this.collections;
    const id = consumerDocumentId(key);
    return guarded(`read windows of '${key.group}' on '${key.stream}'`, async () => {
      const documents = await window.find({ processed: false, consumer: id }, { projection: WITHOUT_DATA }).toArray();
      const { adopted = 0, finished = [] } =
        (await consumer.findOne({ _id: id }, { projection: { adopted: 1, finished: 1 } })) ?? {};
      const found = new Map<number, ReadWindow>();
      // If a window has its own document, that one counts.
      const valid = documents.filter((document) => document.fence >= adopted);
      for (const record of [...valid.filter(isShared), ...valid.filter((document) => !isShared(document))].flatMap(
        sound,
      )) {
        found.set(record.seq, inRanges(finished, record.seq) ? { ...record, finished: true } : record);
      }
      return { windows: [...found.values()].toSorted((a, b) => a.seq - b.seq) };
    });
  }

  /** Ordered by number, then by `_id`: a group that was removed and registered again may have used a number twice. */
  async kept(key: ConsumerKey, after: string | undefined, limit: number): Promise<WindowPage> {
    const consumer = consumerDocumentId(key);
    const kept: mongo.Filter<WindowDocument> = {
      processed: true,
      consumer,
      seq: { $gte: 0 },
      settled: { $exists: true },
    };
    const documents = await guarded(`read kept windows of '${key.group}' on '${key.stream}'`, () =>
      this.collections.window
        .find({ ...kept, ...behind(after) }, { projection: WITHOUT_DATA })
        .sort({ seq: 1, _id: 1 })
        .limit(limit)
        .batchSize(limit + 1)
        .toArray(),
    );
    const last = documents.at(-1);
    return {
      windows: documents.flatMap((document) =>
        sound(document).map((record) => ({ ...record, ...(document.settled && { settled: document.settled }) })),
      ),
      ...(last && documents.length >= limit && { next: `${last.seq}:${last._id}` }),
    };
  }
}

function behind(after: string | undefined): mongo.Filter<WindowDocument> {
  if (after === undefined) return {};
  const colon = after.indexOf(':');
  const seq = Number(after.slice(0, colon));
  // The first bound lets the index start there.
  return { seq: { $gte: seq }, $or: [{ seq: { $gt: seq } }, { _id: { $gt: after.slice(colon + 1) } }] };
}

function isShared({ windows }: WindowDocument): boolean {
  return Array.isArray(windows);
}

/** Skips documents that other programs have written or damaged. */
function sound(document: WindowDocument): WindowRecord[] {
  if (!isWindow(document)) return [];
  try {
    return toWindowRecords(document).filter(({ id }) => typeof id === 'string');
  } catch {
    return [];
  }
}
