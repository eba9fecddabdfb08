import { inspect } from 'node:util';
import type { ConsumerKey, ConsumerStats, StreamStats } from '../stream-store.interface.js';
import { partitionCount, type Partitioning } from '../partitions.js';
import type { Collections } from './collections.js';
import { NOT_RETIRED, WITHOUT_EFFECTS } from './consumer-document.js';
import { DONE, IS_MESSAGE } from './foreign.js';
import { leaseState } from './leases.js';
import type { ConsumerDocument } from './schemas/consumer.schema.js';
import type { StreamDocument } from './schemas/stream.schema.js';
import { guarded } from './store-errors.js';
import { toInfo, type Streams } from './streams.js';

/** How many messages in the buffer have the same marks. There are few different combinations. */
interface BufferCount {
  _id: { stream: string; partition?: number | null; done: string; ours: boolean };
  messages: number;
  oldest?: Date;
  /** The id of one of the documents. */
  example: unknown;
}

/** The number of windows in a document of the window collection: the windows that share it, or one. */
const WINDOWS = { $size: { $ifNull: ['$windows', [0]] } };

/** Messages of a stream that the same groups have committed. */
interface UncommittedCount {
  _id: Pick<BufferCount['_id'], 'stream' | 'partition' | 'done'>;
  n: number;
  first: unknown;
  last: unknown;
}

/** Windows that a consumer has claimed under a fence. */
interface Claimed {
  _id: { consumer: string; fence: number };
  windows: number;
}

interface Letters {
  _id: string;
  letters: number;
}

/** How long a count of foreign documents remains valid, in milliseconds. */
const FOREIGN_AGE = 60_000;

/** Statistics and wake-up tokens, counted in the database by a fixed number of commands for any number of streams. */
export class Statistics {
  /** The last count by stream. */
  private readonly foreign = new Map<string, { readonly documents: number; readonly at: number }>();

  constructor(
    private readonly collections: Pick<Collections, 'buffer' | 'consumer' | 'deadletter' | 'window'>,
    private readonly streams: Streams,
  ) {}

  /**
   * The number, first and last id of the messages that a consumer has not committed. A message that arrives late, between others, changes
   * at least the number. Messages that only other groups wait for are not read, so a consumer that keeps up does not pay for one that lags.
   */
  async poll(keys: readonly ConsumerKey[]): Promise<readonly string[]> {
    if (keys.length === 0) return [];
    const streams = new Map<string, { waits: Set<string | null>; partitions: Set<number | null> }>();
    for (const { stream, group, partition } of keys) {
      const { waits, partitions } = streams.get(stream) ?? { waits: new Set([null]), partitions: new Set() };
      streams.set(stream, { waits: waits.add(group), partitions: partitions.add(partition) });
      if (partition === 0) partitions.add(null);
    }
    // Most streams are asked alike. One condition with many names is one range of the index each; as many conditions are planned one by one.
    const alike = new Map<string, { streams: string[]; waits: (string | null)[]; partitions: (number | null)[] }>();
    for (const [stream, { waits, partitions }] of streams) {
      const id = JSON.stringify([[...waits], [...partitions]]);
      const known = alike.get(id);
      if (known) known.streams.push(stream);
      else alike.set(id, { streams: [stream], waits: [...waits], partitions: [...partitions] });
    }
    const asked = [...alike.values()].map(({ streams: names, waits, partitions }) => ({
      stream: names.length === 1 ? (names[0] ?? '') : { $in: names },
      processed: false,
      waits: { $in: waits },
      partition: { $in: partitions },
    }));
    const found = await guarded('check for new messages', () =>
      this.collections.buffer
        .aggregate<UncommittedCount>([
          { $match: asked.length === 1 ? asked[0] : { $or: asked } },
          {
            $group: {
              _id: { stream: '$stream', partition: '$partition', done: DONE },
              n: { $sum: 1 },
              first: { $min: '$_id' },
              last: { $max: '$_id' },
            },
          },
        ])
        .toArray(),
    );
    return keys.map(({ stream, group, partition }) => {
      const uncommitted = found.filter(
        ({ _id }) => _id.stream === stream && (_id.partition ?? 0) === partition && !isDone(_id, group),
      );
      if (uncommitted.length === 0) return '0';
      const n = uncommitted.reduce((total, some) => total + some.n, 0);
      const firsts = uncommitted.map(({ first }) => String(first)).toSorted();
      const lasts = uncommitted.map(({ last }) => String(last)).toSorted();
      return `${n}:${firsts[0]}:${lasts.at(-1)}`;
    });
  }

  async count(stream: string, most: number): Promise<number> {
    return guarded(`count messages of '${stream}'`, async () => {
      const known = this.foreign.get(stream);
      const counted = await this.countBeside(known?.documents ?? 0, stream, most);
      if (counted < most || (known && performance.now() - known.at < FOREIGN_AGE)) return counted;
      const documents = await this.countForeign(stream);
      this.foreign.set(stream, { documents, at: performance.now() });
      return documents === (known?.documents ?? 0) ? counted : this.countBeside(documents, stream, most);
    });
  }

  /** Counts by the index alone, which does not tell foreign documents from messages, and subtracts those that are known. */
  private async countBeside(foreign: number, stream: string, most: number): Promise<number> {
    const all = await this.collections.buffer.countDocuments({ stream, processed: false }, { limit: most + foreign });
    return Math.max(0, all - foreign);
  }

  /** Reads every document, so it is called only when the stream seems to be full. */
  private async countForeign(stream: string): Promise<number> {
    const counts = await this.collections.buffer
      .aggregate<{ _id: Pick<BufferCount['_id'], 'ours' | 'partition'>; documents: number }>([
        { $match: { stream, processed: false } },
        { $group: { _id: { ours: IS_MESSAGE, partition: '$partition' }, documents: { $sum: 1 } } },
      ])
      .toArray();
    const consumers = await this.collections.consumer
      .find({ stream, ...NOT_RETIRED }, { projection: { partition: 1 } })
      .toArray();
    const info = (await this.streams.describe(stream)) ?? {};
    const strangers = counts.filter(({ _id }) => !isReadable(_id, info, consumers));
    return strangers.reduce((total, { documents }) => total + documents, 0);
  }

  async stats(names?: readonly string[]): Promise<readonly StreamStats[]> {
    const streams = await this.streams.documents(names);
    if (streams.length === 0) return [];
    const present = { $in: streams.map(({ name }) => name) };
    const [consumers, counts, claimed, buried] = await guarded('count messages, windows and dead letters', () =>
      Promise.all([
        this.collections.consumer
          .find({ stream: present, ...NOT_RETIRED }, { projection: WITHOUT_EFFECTS })
          .sort({ group: 1, partition: 1 })
          .toArray(),
        this.collections.buffer
          .aggregate<BufferCount>([
            { $match: { stream: present, processed: false } },
            {
              $group: {
                _id: { stream: '$stream', partition: '$partition', done: DONE, ours: IS_MESSAGE },
                messages: { $sum: 1 },
                oldest: { $min: '$created' },
                example: { $min: '$_id' },
              },
            },
          ])
          .toArray(),
        this.collections.window
          .aggregate<Claimed>([
            { $match: { processed: false, stream: present } },
            { $group: { _id: { consumer: '$consumer', fence: '$fence' }, windows: { $sum: WINDOWS } } },
          ])
          .toArray(),
        this.collections.deadletter
          .aggregate<Letters>([{ $match: { stream: present } }, { $group: { _id: '$stream', letters: { $sum: 1 } } }])
          .toArray(),
      ]),
    );
    const letters = new Map(buried.map((count) => [count._id, count.letters]));
    return streams.map((stream) =>
      streamStats(
        stream,
        consumers.filter((consumer) => consumer.stream === stream.name),
        counts.filter(({ _id }) => _id.stream === stream.name),
        claimed,
        letters.get(stream.name) ?? 0,
      ),
    );
  }
}

/** If nobody has read a stream, its two times differ by less than this; milliseconds. */
const CREATION = 1_000;

/** Python's consumers update `last_read` with each window; producers do not. */
function isReadByPython(stream: StreamDocument): stream is StreamDocument & { last_read: Date } {
  const { created, last_read: read } = stream;
  return read instanceof Date && created instanceof Date && read.getTime() > created.getTime() + CREATION;
}

function streamStats(
  stream: StreamDocument,
  consumers: readonly ConsumerDocument[],
  all: readonly BufferCount[],
  claimed: readonly Claimed[],
  deadLetters: number,
): StreamStats {
  const info = toInfo(stream);
  const counts = all.filter(({ _id }) => isReadable(_id, info, consumers));
  const foreign = all.filter((count) => !counts.includes(count));
  const waiting = counts.filter(
    ({ _id }) => info.groups.length === 0 || info.groups.some((group) => !isDone(_id, group)),
  );
  const oldest = Math.min(...waiting.map((count) => count.oldest?.getTime() ?? Number.POSITIVE_INFINITY));
  return {
    ...info,
    buffered: sum(waiting),
    ...(Number.isFinite(oldest) ? { oldest: new Date(oldest) } : {}),
    deadLetters,
    ...(isReadByPython(stream) ? { readElsewhere: stream.last_read } : {}),
    ...(foreign[0] && { foreign: { documents: sum(foreign), example: inspect(foreign[0].example) } }),
    consumers: consumers.map((consumer) => consumerStats(consumer, counts, openWindows(consumer, claimed))),
  };
}

/** Without late claims of a former holder, which are void. */
function openWindows({ _id, adopted }: ConsumerDocument, claimed: readonly Claimed[]): number {
  return claimed.reduce((total, { _id: by, windows }) => {
    return by.consumer === _id && by.fence >= adopted ? total + windows : total;
  }, 0);
}

function consumerStats(consumer: ConsumerDocument, counts: readonly BufferCount[], openWindows: number): ConsumerStats {
  const { group, partition, progress, note } = consumer;
  return {
    group,
    partition,
    lease: leaseState(consumer),
    progress,
    openWindows,
    pending: sum(counts.filter(({ _id }) => (_id.partition ?? 0) === partition && !isDone(_id, group))),
    ...(note !== undefined && { note }),
  };
}

/** False for what is no message, and for what is in a partition that the stream does not have and no consumer reads. */
function isReadable(
  { ours, partition }: Pick<BufferCount['_id'], 'ours' | 'partition'>,
  stream: Partitioning,
  consumers: readonly Pick<ConsumerDocument, 'partition'>[],
): boolean {
  if (!ours) return false;
  const place = partition ?? 0;
  return place < partitionCount(stream) || consumers.some((consumer) => consumer.partition === place);
}

function isDone({ done }: Pick<BufferCount['_id'], 'done'>, group: string): boolean {
  return done.split('\0').slice(1).includes(group);
}

function sum(counts: readonly BufferCount[]): number {
  return counts.reduce((total, { messages }) => total + messages, 0);
}
