import type { LeaseOwner, NewDeadLetter, StoredMessage, StreamStore } from '../stream-store.interface.js';
import { keyOf, messageOf, takeLease } from '../../../../../test/support/mongoose-store.js';

export const DIED = new Date(1_800_000_000_000);
const LIMITS = { messages: 100_000, bytes: 2 ** 40 };

export function letterOf(message: StoredMessage, more: Partial<NewDeadLetter> = {}): NewDeadLetter {
  return { message, window: 'window-1', consumer: 'Report.run', attempts: 5, error: 'boom', died: DIED, ...more };
}

/** Takes everything that waits for the group, as its consumer would, and gives it back. */
export async function consume(
  store: StreamStore,
  stream: string,
  group = 'default',
  { keep = false, owner }: { readonly keep?: boolean; readonly owner?: LeaseOwner } = {},
): Promise<readonly StoredMessage[]> {
  const lease = await takeLease(store, keyOf(stream, group), owner);
  const { messages } = await store.fetch(lease.key, undefined, LIMITS);
  const window = { seq: 1, id: 'w', messageIds: [], created: new Date(), attempt: 1, recoveries: 0 };
  const groups = (await store.describeStream(stream))?.groups ?? [];
  if (messages.length > 0) await store.settle(lease, [{ window, messages }], { groups, keep });
  return messages;
}

/** Appends the data, and makes them dead letters of the group; they have left the buffer as far as it goes. */
export async function buryAll(store: StreamStore, stream: string, data: readonly unknown[], group = 'default') {
  const lease = await takeLease(store, keyOf(stream, group));
  await store.append(data.map((value) => messageOf(stream, value)));
  const { messages } = await store.fetch(lease.key, undefined, LIMITS);
  await store.bury(
    lease,
    messages.map((message) => letterOf(message)),
  );
  await consume(store, stream, group);
}
