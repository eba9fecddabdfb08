import type { mongo } from 'mongoose';
import { type FailedCheckpoint, isDue } from '../checkpoints.js';
import type { AppendOutcome, Checkpoint } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { decode } from './raw-document.js';
import type { StreamDocument } from './schemas/stream.schema.js';
import { guarded } from './store-errors.js';
import type { Streams } from './streams.js';

/** Positions of sources. They are stored in the document of their stream. */
export class Checkpoints {
  constructor(
    private readonly collections: Pick<Collections, 'stream'>,
    private readonly streams: Streams,
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

  /**
   * Stores the positions that are due, each by a separate update, so that one failure does not affect the others. Resolves with those that
   * could not be stored. In a session the updates go one after the other, because the driver requires it.
   * @throws what the driver throws in a session: the transaction that the update was part of is over
   */
  async write(
    checkpoints: readonly Checkpoint[],
    outcomes: readonly AppendOutcome[],
    session?: mongo.ClientSession,
  ): Promise<readonly FailedCheckpoint[]> {
    const due = checkpoints.filter((checkpoint) => isDue(checkpoint, outcomes));
    const places = [...byPlace(due).values()];
    if (session) {
      for (const [newest] of places) await this.writeOne(newest, session);
      return [];
    }
    const failed: FailedCheckpoint[] = [];
    await Promise.all(
      places.map(([newest, ...older]) =>
        this.writeOne(newest).catch((error: unknown) => {
          for (const checkpoint of [newest, ...older]) failed.push({ checkpoint, error });
        }),
      ),
    );
    return failed;
  }

  private async writeOne({ stream, source, position }: Checkpoint, session?: mongo.ClientSession): Promise<void> {
    const change = { $set: { [`checkpoints.${fieldName(source)}`]: { position, at: new Date() } } };
    const update = () => this.collections.stream.updateOne({ name: stream }, change, session ? { session } : {});
    if ((await update()).matchedCount > 0) return;
    await this.streams.ensure(stream);
    await update();
  }
}

/** The checkpoints of each source on each stream, the newest first: only that one is stored. */
function byPlace(checkpoints: readonly Checkpoint[]): Map<string, [Checkpoint, ...Checkpoint[]]> {
  const places = new Map<string, [Checkpoint, ...Checkpoint[]]>();
  for (const checkpoint of checkpoints) {
    const place = `${checkpoint.stream}\0${checkpoint.source}`;
    places.set(place, [checkpoint, ...(places.get(place) ?? [])]);
  }
  return places;
}

/** The name of a source may contain characters that an update path can't. A `%` alone encodes the empty name. */
function fieldName(source: string): string {
  if (source === '') return '%';
  return source.replace(/[%.$\0]/g, (char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function positionOf(checkpoints: NonNullable<StreamDocument['checkpoints']>, name: string): unknown {
  return Object.hasOwn(checkpoints, name) ? checkpoints[name]?.position : undefined;
}
