import type { mongo } from 'mongoose';
import type { Collections } from './collections.js';
import { decode } from './raw-document.js';
import type { StreamDocument } from './schemas/stream.schema.js';
import { guarded } from './store-errors.js';
import type { StreamRecords } from './stream-records.js';

/** Positions of sources, in the document of their stream. */
export class Checkpoints {
  constructor(
    private readonly collections: Collections,
    private readonly streams: StreamRecords,
  ) {}

  async read(stream: string, source: string): Promise<unknown> {
    const path = `checkpoints.${fieldName(source)}`;
    const found = await guarded(`read the checkpoint of source '${source}' on '${stream}'`, () =>
      this.collections.stream.findOne({ name: stream }, { projection: { [path]: 1 }, raw: true }),
    );
    if (found === null) return undefined;
    const { checkpoints } = decode<StreamDocument>(found as unknown as Buffer, 'bigint');
    return checkpoints && positionOf(checkpoints, fieldName(source));
  }

  async write(stream: string, source: string, position: unknown, session?: unknown): Promise<void> {
    const path = `checkpoints.${fieldName(source)}`;
    const options = session === undefined ? {} : { session: session as mongo.ClientSession };
    const change = { $set: { [path]: { position, at: new Date() } } };
    await guarded(`store the checkpoint of source '${source}' on '${stream}'`, async () => {
      const write = () => this.collections.stream.updateOne({ name: stream }, change, options);
      if ((await write()).matchedCount > 0) return;
      await this.streams.ensure(stream);
      await write();
    });
  }
}

/** A source's name can hold what a path in an update can't. The lone `%` is no encoding of anything. */
function fieldName(source: string): string {
  if (source === '') return '%';
  return source.replace(/[%.$\0]/g, (char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function positionOf(checkpoints: NonNullable<StreamDocument['checkpoints']>, name: string): unknown {
  return Object.hasOwn(checkpoints, name) ? checkpoints[name]?.position : undefined;
}
