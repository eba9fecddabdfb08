import type { Document } from 'bson';
import type { mongo } from 'mongoose';
import { loadPackage } from '../../common/missing-package.js';
import type { ResolvedReading } from './collection-source.options.js';
import { decodeFound, type FoundDocument } from './found-document.js';

/**
 * One query, its documents in batches, each decoded alone. The server's cursor waits while a batch is appended: that is the backpressure. Ends
 * with an error when the signal aborts.
 */
export async function* readInBatches(
  collection: mongo.Collection,
  { batch, projection }: Pick<ResolvedReading, 'batch' | 'projection'>,
  filter: Document,
  sort: Record<string, 1 | -1>,
  signal: AbortSignal,
): AsyncGenerator<FoundDocument[]> {
  const { mongo: driver } = await loadPackage('A collection source', 'mongoose', () => import('mongoose'));
  const decoding = collection.bsonOptions;
  const cursor = collection.find(filter, {
    sort,
    batchSize: batch,
    readPreference: 'primary',
    signal,
    raw: true,
    ...(projection ? { projection } : {}),
  });
  try {
    while (await cursor.hasNext()) {
      const documents = cursor.readBufferedDocuments(batch) as readonly unknown[] as readonly Uint8Array[];
      yield documents.map((bytes) => decodeFound(driver.BSON, bytes, decoding));
    }
  } finally {
    // Not waited for: it asks the server, and the work is over.
    void cursor.close().catch(() => undefined);
  }
}
