import { crc32 } from 'node:zlib';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { ConsumerKey } from './consumer-key.interface.js';
import type { Growth, StreamCatalog, StreamGrowth, StreamInfo } from './stream.interface.js';

/** What a stream's record says of its partitions. */
export type Partitioning = Pick<StreamInfo, 'partitions' | 'growths'>;

/** Each partition has a lease, a reader and workers of its own in every process. */
export const MOST_PARTITIONS = 1024;

/** By then all producers have heard of new partitions, and the clocks of their hosts have passed it; milliseconds. */
export const GROWTH_NOTICE = 10_000;

/**
 * The stream as it is stored, created if it is not there. If nobody has said before how many partitions it has, it gets as many as are
 * declared.
 *
 * @param declared by the code; what is stored wins over it
 */
export async function ensureDeclared(
  store: StreamCatalog,
  stream: string,
  declared: number | undefined,
  now: number,
): Promise<StreamInfo> {
  if (declared === undefined) return store.ensureStream(stream);
  const info = await store.ensureStream(stream, { partitions: declared });
  if (info.partitions !== undefined) return info;
  return store.updateStream(stream, { grow: { partitions: declared, at: new Date(now + GROWTH_NOTICE) } });
}

/** Undefined if what is stored is what the code declares. `isExpected` if the stream may have grown since the code was written. */
export function mismatchOf(
  info: StreamInfo,
  declared: number | undefined,
): { readonly text: string; readonly isExpected: boolean } | undefined {
  const count = partitionCount(info);
  if (declared === undefined || declared === count) return undefined;
  const isExpected = declared < count && count % declared === 0;
  let remedy = `it can only grow to a multiple of ${count}: declare { partitions: ${count} }`;
  if (isExpected) remedy = `if it has grown, let the next version declare { partitions: ${count} }`;
  else if (declared > count && declared % count === 0)
    remedy = `once every process runs this version, call stream.grow(${declared})`;
  const text = `the stream '${info.name}' has ${count} partitions, and its definition says ${declared}. What is stored counts; ${remedy}`;
  return { text, isExpected };
}

export function partitionCount({ partitions = 1 }: Partitioning): number {
  return partitions;
}

export function allPartitions(stream: Partitioning): readonly number[] {
  return Array.from({ length: partitionCount(stream) }, (_, partition) => partition);
}

/** Consumers of these groups in all partitions. */
export function consumersOf(info: StreamInfo, groups: readonly string[] = info.groups): readonly ConsumerKey[] {
  const partitions = allPartitions(info);
  return groups.flatMap((group) => partitions.map((partition) => ({ stream: info.name, group, partition })));
}

/** How many partitions producers use at a time: those that a growth adds from its own time on. */
export function partitionsAt({ partitions = 1, growths = [] }: Partitioning, time: number): number {
  return growths.find(({ at }) => time < at.getTime())?.from ?? partitions;
}

/**
 * Where a message goes that was sent to this partition. Its producer may have known an earlier stream of the name, with more partitions: nobody
 * reads those.
 */
export function placeIn(stream: Partitioning, partition: number = 0): number {
  return partition % partitionCount(stream);
}

/** The same in every process and version: messages of a key never move. */
export function partitionOfKey(key: string, partitions: number): number {
  return crc32(key) % partitions;
}

/** A partition in which messages of the same keys were before a growth. */
export interface Ancestor {
  readonly partition: number;
  /** Messages sent to it before this time may have keys that are now in the later partition. */
  readonly before: Date;
}

export function ancestorsOf(partition: number, growths: readonly Growth[] = []): readonly Ancestor[] {
  return growths
    .filter(({ from }) => partition >= from)
    .map(({ from, at }) => ({ partition: partition % from, before: at }));
}

/**
 * What the record of the stream says after it was given more partitions. The same object if it has as many already.
 *
 * @throws MinibatchError `InvalidPartitions`
 */
export function grown<P extends Partitioning>(name: string, stream: P, { partitions, at }: StreamGrowth): P {
  const from = partitionCount(stream);
  if (stream.partitions === partitions) return stream;
  if (partitions < from || partitions % from !== 0 || partitions > MOST_PARTITIONS)
    throw invalidPartitions(name, from, partitions);
  const growths = partitions === from ? stream.growths : [...(stream.growths ?? []), { from, at }];
  return { ...stream, partitions, ...(growths && { growths }) };
}

function invalidPartitions(stream: string, has: number, wanted: number): MinibatchError {
  const why =
    wanted < has
      ? `it can't have fewer: messages of the others would be left behind. Drain it into a new stream with ${wanted}`
      : wanted > MOST_PARTITIONS
        ? `${MOST_PARTITIONS} are the most that a stream may have`
        : `the number must be a multiple of ${has}, such as ${2 * has}, so that the order of each key is kept`;
  return new MinibatchError(
    ErrorCode.InvalidPartitions,
    `stream '${stream}' has ${has} ${has === 1 ? 'partition' : 'partitions'} and can't be given ${wanted}: ${why}`,
    { details: { stream, partitions: has, wanted } },
  );
}
