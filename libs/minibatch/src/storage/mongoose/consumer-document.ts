import type { ConsumerKey, Lease } from '../stream-store.interface.js';
import type { ConsumerDocument, SeqRange } from './schemas/consumer.schema.js';

/** The `_id` of a consumer's document: readable, and unique whatever the names contain. */
export function consumerDocumentId(key: ConsumerKey): string {
  return `${escape(key.stream)}/${escape(key.group)}/${key.partition}`;
}

/** What kept windows name as their consumer once its group has been removed. A later group of the name is another consumer. */
export function removedConsumerId(_id: string): string {
  return `${_id}/removed`;
}

function escape(name: string): string {
  return name.replaceAll('%', '%25').replaceAll('/', '%2F');
}

/** Matches the consumer's document only while the lease is held: the filter of every conditional update. */
export function heldBy(lease: Lease) {
  return {
    _id: consumerDocumentId(lease.key),
    'lease.fence': lease.fence,
    'lease.owner.id': lease.owner.id,
  };
}

/** The same condition, for a document that was read. */
export function isHeldBy({ lease: stored }: Pick<ConsumerDocument, 'lease'>, lease: Lease): boolean {
  return stored.fence === lease.fence && stored.owner?.id === lease.owner.id;
}

/** Consumers of groups that have not been removed. */
export const NOT_RETIRED = { retired: { $exists: false } };

/** A projection: they may be large. */
export const WITHOUT_EFFECTS = { effects: 0 } as const;

/** As ranges, because finished `seq`s are usually consecutive. */
export function toRanges(seqs: readonly number[]): SeqRange[] {
  const ranges: SeqRange[] = [];
  for (const seq of [...seqs].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last && seq <= last[1] + 1) last[1] = seq;
    else ranges.push([seq, seq]);
  }
  return ranges;
}

export function inRanges(ranges: readonly SeqRange[], seq: number): boolean {
  return ranges.some(([from, to]) => from <= seq && seq <= to);
}
