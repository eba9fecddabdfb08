import type { LmdbEnvironment } from './environment.js';
import {
  GROUP_KINDS,
  groupKey,
  Kind,
  type KeyRange,
  PLACE_KINDS,
  prefixRange,
  STREAM_KINDS,
  streamKey,
  WHOLE_STREAM,
} from './keys.js';
import { MessageRemoval } from './message-removal.js';
import { partitionsWithMessages, streamById } from './stream-records.js';

/**
 * Removals of any size. The first transaction removes what leads to the records, so that they are gone for everybody, and leaves a note.
 * The records go in as many transactions as they need, so that nobody waits long for the writer's lock. If the process dies halfway,
 * the next `open` resumes from the note.
 */

/** Records of one transaction. */
const CHUNK = 5_000;

/** Carries out all that is noted. */
export async function cleanUp(environment: LmdbEnvironment): Promise<void> {
  const notes = environment.read((view) => [...view.keys(prefixRange(Buffer.from([Kind.Cleanup])))]);
  for (const note of notes) {
    const stream = note.readUInt32BE(1);
    const group = note.readUInt32BE(5);
    const prefixes =
      group === WHOLE_STREAM
        ? STREAM_KINDS.map((kind) => streamKey(kind, stream))
        : kindsOf(environment, stream, group).map((kind) => groupKey(kind, stream, group));
    for (const prefix of prefixes) await removeAll(environment, prefixRange(prefix));
    if (group !== WHOLE_STREAM) await purge(environment, stream);
    await environment.write((view) => view.remove(note));
  }
}

/** What a group has kept is known by what it has committed, until that has left the buffer. */
function kindsOf(environment: LmdbEnvironment, stream: number, group: number): readonly Kind[] {
  const isKeeper = environment.read((view) => streamById(view, stream)?.keepers?.includes(group));
  return isKeeper ? GROUP_KINDS.filter((kind) => !PLACE_KINDS.includes(kind)) : GROUP_KINDS;
}

async function removeAll(environment: LmdbEnvironment, range: KeyRange): Promise<void> {
  // Most kinds have no records: reading is cheaper than a write transaction.
  while (environment.read((view) => [...view.keys(range, 1)].length > 0)) {
    await environment.write((view) => {
      for (const key of [...view.keys(range, CHUNK)]) view.remove(key);
    });
  }
}

/** Removes messages that only the removed group held back. If no group is left, nobody has seen them: they wait for the next one. */
async function purge(environment: LmdbEnvironment, stream: number): Promise<void> {
  for (const partition of environment.read((view) => partitionsWithMessages(view, stream))) {
    let after: number | undefined = 0;
    while (after !== undefined) {
      const from: number = after;
      after = await environment.write((view) => {
        const record = streamById(view, stream);
        if (record === undefined) return undefined;
        const removal = new MessageRemoval(view, record, partition, Date.now());
        const next = removal.purge(from, CHUNK);
        removal.finish();
        return next;
      });
    }
  }
}
