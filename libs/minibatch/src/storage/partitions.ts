import { crc32 } from 'node:zlib';
import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { Growth, StreamGrowth, StreamInfo } from './stream.interface.js';

/** What a stream's record says of its partitions. */
export type Partitioning = Pick<StreamInfo, 'partitions' | 'growths'>;

/** Each partition has a lease, a reader and workers of its own in every process. */
export const MOST_PARTITIONS = 1024;

export function partitionCount({ partitions = 1 }: Partitioning): number {
  return partitions;
}

export function allPartitions(stream: Partitioning): readonly number[] {
  return Array.from({ length: partitionCount(stream) }, (_, partition) => partition);
}

/** How many partitions producers use at a time: those that a growth adds from its own time on. */
export function partitionsAt({ partitions = 1, growths = [] }: Partitioning, time: number): number {
  return growths.find(({ at }) => time < at.getTime())?.from ?? partitions;
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
