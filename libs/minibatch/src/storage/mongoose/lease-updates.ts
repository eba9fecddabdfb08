import type { mongo } from 'mongoose';
import type { ConsumerDocument } from './schemas/consumer.schema.js';
import { isServerLost } from './store-errors.js';

/** An update of one consumer's document, which applies only while its lease is as expected. */
export interface LeaseUpdate {
  readonly filter: mongo.Filter<ConsumerDocument> & { readonly _id: string };
  readonly update: mongo.UpdateFilter<ConsumerDocument>;
}

type Operation = mongo.AnyBulkWriteOperation<ConsumerDocument>;

/** What a bulk write counts of its documents. */
type Counts = Pick<mongo.BulkWriteResult, 'matchedCount' | 'modifiedCount'>;

/**
 * Sends updates of different consumers, unordered, as one command. What differs in nothing but the consumer is one statement: the consumers
 * that a process holds have the same owner, and most have the same fence. So a server has to find a thousand documents by one condition
 * instead of executing a thousand updates.
 *
 * The driver does not retry such a statement, so it is sent once more here if the server was lost. A document that can't be updated ends its
 * statement, so after a failure each has its own. Each update must allow that it is sent more than once.
 */
export async function updateLeases(
  consumers: Pick<mongo.Collection<ConsumerDocument>, 'bulkWrite'>,
  updates: readonly LeaseUpdate[],
  others: readonly Operation[] = [],
): Promise<Counts> {
  const send = (operations: readonly Operation[]) =>
    consumers.bulkWrite([...operations, ...others], { ordered: false });
  const together = grouped(updates);
  if (together.length === updates.length) return send(together);
  return send(together).catch((error: unknown) =>
    send(isServerLost(error) ? together : updates.map((updateOne) => ({ updateOne }))),
  );
}

function grouped(updates: readonly LeaseUpdate[]): readonly Operation[] {
  const groups = new Map<string, LeaseUpdate[]>();
  for (const each of updates) {
    const { _id, ...condition } = each.filter;
    const same = JSON.stringify([condition, each.update]);
    const group = groups.get(same);
    if (group) group.push(each);
    else groups.set(same, [each]);
  }
  return [...groups.values()].map(toOperation);
}

function toOperation(group: readonly LeaseUpdate[]): Operation {
  const { filter, update } = group[0] as LeaseUpdate;
  if (group.length === 1) return { updateOne: { filter, update } };
  return { updateMany: { filter: { ...filter, _id: { $in: group.map((each) => each.filter._id) } }, update } };
}
