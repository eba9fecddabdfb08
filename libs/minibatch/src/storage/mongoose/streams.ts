import { mongo } from 'mongoose';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { unknownStream } from '../../errors/store-faults.js';
import { grown, partitionCount } from '../partitions.js';
import {
  asksConsumers,
  type NewStream,
  type StreamGrowth,
  type StreamInfo,
  type StreamUpdate,
  type WindowRequest,
} from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { NOT_RETIRED } from './consumer-document.js';
import { type Indexes, makePartitionIndex } from './indexes.js';
import { insertMissing } from './insert-missing.js';
import type { StateRemoval } from './state-removal.js';
import type { StreamDocument } from './schemas/stream.schema.js';
import { guarded, isDuplicateKey } from './store-errors.js';
import { joined, TurnBatch } from './turn-batch.js';

/** Version of the schema; increased when an older version of this package would misread the data. */
export const SCHEMA_VERSION = 1;

/** Python's status of a stream that was created but not opened. */
const PYTHON_INIT = 'initialize';

/** Positions of sources can be large and are not needed here. */
const INFO = { projection: { checkpoints: 0 } } as const;

/** The documents of the streams. */
export class Streams {
  private readonly openings = joined<string, StreamInfo>(
    (stream) => this.ensureOne(stream),
    async (streams) => {
      const infos = await this.ensureAll(streams);
      return Promise.all(streams.map(async (stream) => infos.get(stream) ?? this.ensureOne(stream)));
    },
  );
  private readonly lists = new TurnBatch<readonly string[], readonly StreamInfo[]>((requests) =>
    this.listTogether(requests),
  );

  constructor(
    private readonly collections: Collections,
    private readonly indexes: Indexes,
    private readonly state: StateRemoval,
  ) {}

  /** @throws MinibatchError `SchemaTooNew` */
  async checkVersion(): Promise<void> {
    const newer = await this.collections.stream.findOne({ schemaVersion: { $gt: SCHEMA_VERSION } }, INFO);
    if (newer) refuseNewer(newer);
  }

  ensure(stream: string, made: NewStream = {}): Promise<StreamInfo> {
    return made.partitions === undefined ? this.openings.add(stream) : this.ensureOne(stream, made);
  }

  private async ensureOne(stream: string, made: NewStream = {}): Promise<StreamInfo> {
    return guarded(`create stream '${stream}'`, async () => {
      const { document, isNew } = await this.upsert(stream, made);
      refuseNewer(document);
      if (isNew) {
        const restored = await this.restore(document);
        // The whole database may have been dropped.
        await this.indexes.ensure();
        const info = toInfo({ ...document, ...restored });
        if (partitionCount(info) > 1) await makePartitionIndex(this.collections);
        return info;
      }
      const closedByNobody = document.status === 'init' || document.status === PYTHON_INIT;
      if (!closedByNobody && document.schemaVersion === SCHEMA_VERSION) return toInfo(document);
      // Only if the status is unchanged: another process may have closed the stream.
      await this.collections.stream.updateOne({ _id: document._id }, { $max: { schemaVersion: SCHEMA_VERSION } });
      if (closedByNobody) {
        await this.collections.stream.updateOne(
          { _id: document._id, status: document.status },
          { $set: { status: 'open' } },
        );
      }
      return toInfo((await this.collections.stream.findOne({ _id: document._id }, INFO)) ?? document);
    });
  }

  /** The same for many, in a few commands. What is not as plain as a new stream, or as one that is open, goes alone. */
  async ensureAll(streams: readonly string[]): Promise<ReadonlyMap<string, StreamInfo>> {
    return guarded('create streams', async () => {
      const names = [...new Set(streams)];
      const known = await this.documents(names);
      const present = new Set(known.map(({ name }) => name));
      const missing = names.filter((name) => !present.has(name));
      const created = missing.length > 0 ? await this.createAll(missing) : [];
      const plain = [...known, ...created].filter(isOpened);
      const infos = new Map(plain.map((document) => [document.name, toInfo(document)]));
      for (const name of names) if (!infos.has(name)) infos.set(name, await this.ensureOne(name));
      return infos;
    });
  }

  /** Resolves with the streams as they are then. Another process may have made some of them, or have dropped them. */
  private async createAll(names: readonly string[]): Promise<readonly StreamDocument[]> {
    const { stream, consumer } = this.collections;
    const documents = names.map(newStream);
    await insertMissing(stream, documents);
    const orphans = await consumer
      .find({ stream: { $in: [...names] }, ...NOT_RETIRED }, { projection: { stream: 1 } })
      .toArray();
    for (const name of new Set(orphans.map((each) => each.stream))) {
      const own = documents.find((each) => each.name === name);
      const present = own && (await stream.findOne({ _id: own._id }, INFO));
      if (present) await this.restore(present);
    }
    // The whole database may have been dropped.
    await this.indexes.ensure();
    return this.documents(names);
  }

  async describe(stream: string): Promise<StreamInfo | undefined> {
    const document = await guarded(`describe stream '${stream}'`, () =>
      this.collections.stream.findOne({ name: stream }, INFO),
    );
    return document ? toInfo(document) : undefined;
  }

  async list(streams?: readonly string[]): Promise<readonly StreamInfo[]> {
    return streams ? this.lists.add(streams) : (await this.documents()).map(toInfo);
  }

  /** Consumers that begin in one turn read their streams together. */
  private async listTogether(requests: readonly (readonly string[])[]): Promise<readonly (readonly StreamInfo[])[]> {
    const found = await this.documents([...new Set(requests.flat())]);
    const byName = new Map(found.map((document) => [document.name, document]));
    return requests.map((names) => {
      const [only = ''] = names;
      const document = byName.get(only);
      if (names.length === 1) return document ? [toInfo(document)] : [];
      const wanted = new Set(names);
      return found.filter(({ name }) => wanted.has(name)).map(toInfo);
    });
  }

  async documents(streams?: readonly string[]): Promise<readonly StreamDocument[]> {
    if (streams?.length === 0) return [];
    return guarded('list streams', () =>
      this.collections.stream
        .find(streams ? { name: { $in: [...streams] } } : {}, INFO)
        .sort({ name: 1 })
        .toArray(),
    );
  }

  async update(stream: string, change: StreamUpdate): Promise<StreamInfo> {
    const { status, paused, flush, clear, request, answered } = change;
    const set: Partial<StreamDocument> = {
      ...(status && { status, closed: status === 'closed' ? new Date() : null }),
      ...(paused === undefined ? {} : { paused }),
    };
    if (change.grow) await this.grow(stream, change.grow);
    // Before it is announced: consumers then read the messages again, and must find them marked.
    if (clear) await this.clear(stream);
    const asks = asksConsumers(change);
    const document = await guarded(`change stream '${stream}'`, () =>
      this.collections.stream.findOneAndUpdate(
        { name: stream },
        // So that the update is never empty.
        {
          $max: { schemaVersion: SCHEMA_VERSION },
          ...(Object.keys(set).length > 0 && { $set: set }),
          ...(request && { $addToSet: { requests: toRequest(request) } }),
          ...(answered && { $pull: { requests: toRequest(answered) } }),
          ...(asks && { $inc: { asked: 1, ...(flush && { flushes: 1 }), ...(clear && { clearings: 1 }) } }),
        },
        { returnDocument: 'after', ...INFO },
      ),
    );
    if (!document) throw unknownStream(stream);
    if (asks) await this.tellConsumers(stream, document.asked);
    return toInfo(document);
  }

  /** Repeated if another process has changed the number meanwhile. */
  private async grow(name: string, growth: StreamGrowth): Promise<void> {
    await makePartitionIndex(this.collections);
    const info = await this.describe(name);
    if (!info) throw unknownStream(name);
    const { partitions, growths = [] } = grown(name, info, growth);
    const { matchedCount } = await guarded(`change stream '${name}'`, () =>
      this.collections.stream.updateOne(
        { name, partitions: info.partitions ?? { $exists: false } },
        { $set: { partitions, ...(growths.length > 0 && { growths: growths.map((each) => ({ ...each })) }) } },
      ),
    );
    if (matchedCount === 0) await this.grow(name, growth);
  }

  /** A commit returns the consumer's document, so a busy consumer needs no command of its own to see that it was asked for something. */
  private async tellConsumers(stream: string, asked = 0): Promise<void> {
    await guarded(`tell the consumers of '${stream}'`, () =>
      this.collections.consumer.updateMany({ stream, ...NOT_RETIRED }, { $max: { asked } }),
    );
  }

  /**
   * Marks each message. Ids of several processes interleave and their clocks can't be trusted, so neither a position nor a time could
   * separate messages appended before from those appended later. A message that is being appended at the same time may or may not be
   * marked.
   */
  private async clear(stream: string): Promise<void> {
    await guarded(`clear stream '${stream}'`, () =>
      this.collections.buffer.updateMany(
        { stream, processed: false, cleared: { $exists: false }, redriven: { $exists: false } },
        { $set: { cleared: true } },
      ),
    );
  }

  /** Deletes the stream's document last, so that an interrupted drop can be repeated. */
  async drop(stream: string): Promise<void> {
    await guarded(`drop stream '${stream}'`, async () => {
      const owners = await this.state.find({ stream });
      await this.state.appendDecided(owners);
      await this.state.announce(owners);
      await this.collections.consumer.deleteMany({ stream });
      await this.state.remove(owners);
      await this.collections.window.deleteMany({ stream });
      await this.collections.deadletter.deleteMany({ stream });
      await this.collections.buffer.deleteMany({ stream });
      await this.collections.stream.deleteOne({ name: stream });
    });
  }

  /**
   * Restores the groups and the partitions from the consumers if the stream's document was dropped. The list gets a newer version than their copies, so that
   * they are replaced when a group is added.
   */
  private async restore({ _id, name, partitions }: StreamDocument): Promise<Partial<StreamDocument>> {
    const consumers = await this.collections.consumer
      .find({ stream: name, ...NOT_RETIRED }, { projection: { group: 1, partition: 1, groupsVersion: 1 } })
      .toArray();
    if (consumers.length === 0) return { groups: [] };
    const served = Math.max(...consumers.map(({ partition }) => partition)) + 1;
    const more = served > Math.max(1, partitions ?? 1) && { partitions: served };
    const groups = [...new Set(consumers.map(({ group }) => group))];
    const version = Math.max(...consumers.map(({ groupsVersion }) => groupsVersion)) + 1;
    await this.collections.stream.updateOne(
      { _id },
      { $addToSet: { groups: { $each: groups } }, $max: { groupsVersion: version }, ...(more && { $set: more }) },
    );
    return { groups, ...more };
  }

  private async upsert(
    stream: string,
    { partitions }: NewStream,
  ): Promise<{ document: StreamDocument; isNew: boolean }> {
    const { name: _, ...fresh } = { ...newStream(stream), ...(partitions !== undefined && { partitions }) };
    const upsert = () =>
      this.collections.stream.findOneAndUpdate(
        { name: stream },
        { $setOnInsert: fresh },
        { upsert: true, returnDocument: 'after', ...INFO },
      );
    // Of two simultaneous upserts, the unique index rejects one, or the server returns nothing for it. Then the document exists.
    const first = await upsert().catch((error: unknown) => {
      if (isDuplicateKey(error)) return null;
      throw error;
    });
    const document = first ?? (await upsert());
    if (document) return { document, isNew: document._id.equals(fresh._id) };
    throw new mongo.MongoRuntimeError('the upsert of a stream returned nothing');
  }
}

function newStream(name: string) {
  const now = new Date();
  return {
    // Tells whether the document is new.
    _id: new mongo.ObjectId(),
    name,
    status: 'open',
    created: now,
    interval: 10,
    last_read: now,
    schemaVersion: SCHEMA_VERSION,
    groups: [],
    groupsVersion: 0,
  };
}

/** Nothing is to be changed before it is used. */
function isOpened({ status, schemaVersion }: StreamDocument): boolean {
  return status !== 'init' && status !== PYTHON_INIT && schemaVersion === SCHEMA_VERSION;
}

/** None of a stream that does not exist. */
export async function groupsOf(collections: Pick<Collections, 'stream'>, stream: string): Promise<readonly string[]> {
  const found = await collections.stream.findOne({ name: stream }, { projection: { groups: 1 } });
  return found?.groups ?? [];
}

/** Always with the same order of fields: to a database, another order is another value. */
function toRequest({ group, window, action, sink }: WindowRequest): WindowRequest {
  return { group, window, action, ...(sink === undefined ? {} : { sink }) };
}

export function toInfo(document: StreamDocument): StreamInfo {
  refuseNewer(document);
  const {
    name,
    created,
    closed,
    groups,
    paused,
    flushes,
    clearings,
    requests = [],
    asked,
    partitions,
    growths,
  } = document;
  return {
    name,
    status: toStatus(document.status),
    created: created ?? document._id.getTimestamp(),
    ...(closed ? { closed } : {}),
    groups: groups ?? [],
    paused: paused ?? false,
    flushes: flushes ?? 0,
    ...(clearings ? { clearings } : {}),
    ...(requests.length > 0 ? { requests } : {}),
    ...(asked ? { asked } : {}),
    ...(partitions ? { partitions } : {}),
    ...(growths ? { growths: growths.map(({ from, at }) => ({ from, at })) } : {}),
  };
}

function toStatus(status: string): StreamInfo['status'] {
  if (status === PYTHON_INIT || status === 'init') return 'init';
  return status === 'closed' ? 'closed' : 'open';
}

function refuseNewer({ name, schemaVersion = 0 }: StreamDocument): void {
  if (schemaVersion <= SCHEMA_VERSION) return;
  throw new MinibatchError(
    ErrorCode.SchemaTooNew,
    `Stream '${name}' was written by a newer version of this package (schema ${schemaVersion}, known ${SCHEMA_VERSION}): upgrade this one`,
    { details: { stream: name, schemaVersion, known: SCHEMA_VERSION } },
  );
}
