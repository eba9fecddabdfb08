import type { mongo } from 'mongoose';
import { foreignCodeOf } from '../../errors/error-text.js';
import { ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import type { Collections } from './collections.js';
import { isDuplicateKey } from './store-errors.js';

type Index = mongo.IndexDescription & { key: Record<string, 1 | -1>; name: string };

/** Same name and definition as in the Python library: either may create it. */
const STREAM: readonly Index[] = [{ name: 'name_1', key: { name: 1 }, unique: true }];

const BUFFER: readonly Index[] = [
  // With `waits`, a group finds what it has not committed without reading what only other groups wait for.
  { name: 'minibatch_waiting', key: { stream: 1, processed: 1, waits: 1, _id: 1 } },
  // Sparse: only messages with a dedupe id are in it.
  { name: 'minibatch_dedupe', key: { dedupeKey: 1 }, unique: true, sparse: true },
  // The following are sparse, so that they cost nothing for a stream with one group that keeps no messages.
  { name: 'minibatch_done', key: { done: 1 }, sparse: true },
  { name: 'minibatch_sweep', key: { settled: 1 }, sparse: true },
  // Hidden copies of dead letters' messages.
  { name: 'minibatch_redrive', key: { redrives: 1 }, sparse: true },
  // Copies of kept messages, by their original.
  { name: 'minibatch_replay', key: { replayOf: 1 }, sparse: true },
];

/** With the partition also for streams of one: they may grow while consumers read by time. */
const BUFFER_BY_TIME: readonly Index[] = [
  {
    name: 'minibatch_waiting_in_partition_by_time',
    key: { stream: 1, processed: 1, partition: 1, waits: 1, created: 1, _id: 1 },
  },
];

export const PARTITION_KEY = { stream: 1, processed: 1, partition: 1, waits: 1, _id: 1 } as const;

const BUFFER_BY_PARTITION: readonly Index[] = [{ name: 'minibatch_waiting_in_partition', key: PARTITION_KEY }];

const WINDOW: readonly Index[] = [
  { name: 'minibatch_open_windows', key: { processed: 1, consumer: 1, seq: 1 } },
  { name: 'minibatch_sweep', key: { settled: 1 }, sparse: true },
];

const DEADLETTER: readonly Index[] = [{ name: 'minibatch_dead_letters', key: { stream: 1, _id: 1 } }];

/** Sparse: the first one has rows that are due, the second one removed rows. */
const STATE: readonly Index[] = [
  { name: 'minibatch_due', key: { dueKey: 1 }, sparse: true },
  { name: 'minibatch_sweep', key: { settled: 1 }, sparse: true },
];

type Indexed = Pick<Collections, 'buffer' | 'deadletter' | 'state' | 'stream' | 'window'>;

/**
 * Creates missing indexes; each is named after the query that it serves. They are created again when somebody has dropped a collection: as
 * soon as that is noticed, and after a check every minute, because on a standalone server nothing tells.
 */
export class Indexes {
  private running: Promise<void> | undefined;
  private checked = 0;
  private stateReady: Promise<void> | undefined;
  private hasState = false;

  constructor(private readonly collections: Indexed) {}

  /**
   * To be awaited before a row of state is written: its collection is made for the first consumer that has state. A database user of before
   * that need not have a right to it.
   */
  ensureState(): Promise<void> {
    this.hasState = true;
    this.stateReady ??= make(this.collections.state, STATE).catch((error: unknown) => {
      this.stateReady = undefined;
      throw error;
    });
    return this.stateReady;
  }

  /** This process has to do with the state of consumers. */
  get usesState(): boolean {
    return this.hasState;
  }

  ensure(): Promise<void> {
    this.running ??= makeIndexes(this.collections, this.usesState).finally(() => {
      this.running = undefined;
      this.checked = performance.now();
    });
    return this.running;
  }

  /** In the background: a failure is retried at the next check. */
  ensureNow(): void {
    this.ensure().catch(() => undefined);
  }

  ensureNowAndThen(): void {
    if (performance.now() - this.checked > CHECK_AFTER) this.ensureNow();
  }
}

const CHECK_AFTER = 60_000;

async function makeIndexes(collections: Indexed, usesState: boolean): Promise<void> {
  await make(collections.stream, STREAM);
  await make(collections.buffer, BUFFER).catch(async (error: unknown) => {
    if (!isDuplicateKey(error)) throw error;
    await forgetDoubles(collections.buffer);
    await make(collections.buffer, BUFFER);
  });
  await make(collections.window, WINDOW);
  await make(collections.deadletter, DEADLETTER);
  if (usesState) await make(collections.state, STATE);
}

/** Without the index, a dedupe id may have been stored more than once. The messages stay, and the first one keeps the id. */
async function forgetDoubles(buffer: Collections['buffer']): Promise<void> {
  const doubles = await buffer
    .aggregate<{ ids: mongo.ObjectId[] }>([
      { $match: { dedupeKey: { $exists: true } } },
      { $sort: { _id: 1 } },
      { $group: { _id: '$dedupeKey', ids: { $push: '$_id' }, n: { $sum: 1 } } },
      { $match: { n: { $gt: 1 } } },
    ])
    .toArray();
  const later = doubles.flatMap(({ ids }) => ids.slice(1));
  if (later.length > 0) await buffer.updateMany({ _id: { $in: later } }, { $unset: { dedupeKey: '' } });
}

/** Names of indexes of earlier versions. */
const OUTDATED = ['minibatch_fetch', 'minibatch_fetch_by_time', 'minibatch_waiting_by_time'];

/** For consumers that read by time. It makes appends and deletes slower, so it is created only when such a consumer registers. */
export async function makeTimeIndex(collections: Pick<Collections, 'buffer'>): Promise<void> {
  await make(collections.buffer, BUFFER_BY_TIME);
}

/** For streams with several partitions. It makes appends and deletes slower, so it is created when there is such a stream. */
export async function makePartitionIndex(collections: Pick<Collections, 'buffer'>): Promise<void> {
  await make(collections.buffer, BUFFER_BY_PARTITION);
}

async function make<T extends mongo.Document>(
  collection: mongo.Collection<T>,
  wanted: readonly Index[],
): Promise<void> {
  const present = await existing(collection);
  for (const { name } of present) if (OUTDATED.includes(String(name))) await dropIndex(collection, String(name));
  const missing = wanted.filter((index) => !present.some((other) => sameIndex(index, other)));
  if (missing.length === 0) return;
  try {
    await collection.createIndexes([...missing]);
  } catch (cause) {
    if (!isConflict(cause)) throw cause;
    throw new MinibatchError(
      ErrorCode.ModelConflict,
      `Collection '${collection.collectionName}' has an index that conflicts with ${missing.map(({ name }) => `'${name}'`).join(', ')}: ` +
        `${messageOf(cause)}; drop the other index`,
      { cause, details: { collection: collection.collectionName, indexes: missing.map(({ name }) => name) } },
    );
  }
}

/** Another process may have dropped it first. */
async function dropIndex<T extends mongo.Document>(collection: mongo.Collection<T>, name: string): Promise<void> {
  await collection.dropIndex(name).catch((error: unknown) => {
    if (foreignCodeOf(error) !== INDEX_NOT_FOUND) throw error;
  });
}

async function existing<T extends mongo.Document>(
  collection: mongo.Collection<T>,
): Promise<mongo.IndexDescriptionInfo[]> {
  try {
    return (await collection.listIndexes().toArray()) as mongo.IndexDescriptionInfo[];
  } catch (error) {
    if (foreignCodeOf(error) === NAMESPACE_NOT_FOUND) return [];
    throw error;
  }
}

/** Ignores the name: a server rejects a second index with the same key. */
function sameIndex(wanted: Index, present: mongo.IndexDescriptionInfo): boolean {
  return (
    JSON.stringify(wanted.key) === JSON.stringify(present.key) &&
    Boolean(wanted.unique) === Boolean(present.unique) &&
    Boolean(wanted.sparse) === Boolean(present.sparse)
  );
}

const NAMESPACE_NOT_FOUND = 26;
const INDEX_NOT_FOUND = 27;
const INDEX_OPTIONS_CONFLICT = 85;
const INDEX_KEY_SPECS_CONFLICT = 86;

function isConflict(error: unknown): error is Error {
  const code = foreignCodeOf(error);
  return code === INDEX_OPTIONS_CONFLICT || code === INDEX_KEY_SPECS_CONFLICT;
}
