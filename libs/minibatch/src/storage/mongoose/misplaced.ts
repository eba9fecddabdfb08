import { mongo } from 'mongoose';
import { partitionCount, placeIn } from '../partitions.js';
import type { StreamInfo } from '../stream-store.interface.js';
import { localAppends } from './change-watch.js';
import type { Collections } from './collections.js';
import { NOT_RETIRED } from './consumer-document.js';
import { PARTITION_KEY } from './indexes.js';
import type { MessageRemoval } from './message-removal.js';

/** The server does not know the index of the hint. */
const BAD_VALUE = 2;

/**
 * Moves messages out of partitions that the stream does not have into those that it has. An append does not look at the stream, so a producer
 * that has not heard that the stream was dropped and made again with fewer partitions goes on to use the earlier ones, for some seconds.
 */
export async function moveMisplaced(
  collections: Pick<Collections, 'buffer' | 'consumer'>,
  removal: MessageRemoval,
  stream: StreamInfo,
): Promise<void> {
  const { name } = stream;
  for (let least = partitionCount(stream); ;) {
    const partition = await nextPartition(collections, name, least);
    if (partition === undefined) return;
    least = partition + 1;
    // It grows at this moment.
    if (await collections.consumer.findOne({ stream: name, partition, ...NOT_RETIRED }, { projection: { _id: 1 } }))
      continue;
    await removal.updateMany(
      { stream: name, processed: false, partition },
      { $set: { partition: Number.isSafeInteger(partition) ? placeIn(stream, partition) : 0 } },
    );
    localAppends.tell([{ stream: name }]);
  }
}

/** The least one with messages. Without the index, no stream of the database has had partitions. */
async function nextPartition(
  { buffer }: Pick<Collections, 'buffer'>,
  stream: string,
  least: number,
): Promise<number | undefined> {
  try {
    const found = await buffer.findOne(
      { stream, processed: false, partition: { $gte: least } },
      { projection: { partition: 1 }, sort: { partition: 1 }, hint: PARTITION_KEY },
    );
    return found?.partition;
  } catch (error) {
    if (error instanceof mongo.MongoServerError && error.code === BAD_VALUE) return undefined;
    throw error;
  }
}
