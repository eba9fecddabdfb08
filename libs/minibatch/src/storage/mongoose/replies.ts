import type { mongo } from 'mongoose';

/** A whole reply of a raw cursor at a time: asking the cursor for each document costs more than decoding it. */
export async function* replies(cursor: mongo.FindCursor<unknown>): AsyncGenerator<Buffer[]> {
  try {
    while (await cursor.hasNext()) yield cursor.readBufferedDocuments() as Buffer[];
  } finally {
    await cursor.close();
  }
}
