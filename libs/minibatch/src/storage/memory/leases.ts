import { leaseLost } from '../../errors/store-faults.js';
import type { ConsumerKey, Lease, LeaseOwner, LeaseState, Renewal, RenewalNotice } from '../stream-store.interface.js';
import type { MemoryDatabase } from './memory.database.js';
import type { MemoryConsumer, MemoryStream } from './memory.stream.js';

export function readLease(database: MemoryDatabase, key: ConsumerKey): LeaseState {
  const stream = database.streams.get(key.stream);
  if (stream === undefined) return { fence: 0, counter: 0, missing: true };
  if (stream.groups.has(key.group)) return stateOf(stream.ensureConsumer(key));
  const { removedFence } = stream;
  // A stream that was dropped and created again knows nothing of the consumer. Where groups were removed it may be one of them, and
  // must not come back.
  return { fence: removedFence, counter: 0, ...(removedFence === 0 && { missing: true as const }) };
}

export function acquireLease(
  database: MemoryDatabase,
  key: ConsumerKey,
  owner: LeaseOwner,
  expected: LeaseState,
  holdTime: number | undefined,
): Lease | undefined {
  const stream = database.streams.get(key.stream);
  // Messages are not held back for a group that is not registered.
  if (!stream?.groups.has(key.group)) return undefined;
  const consumer = stream.ensureConsumer(key);
  // The answer to an earlier call may have been lost: the lease is this owner's already.
  const repeated = consumer.owner?.id === owner.id && consumer.fence === expected.fence + 1;
  if (!repeated) {
    if (consumer.fence !== expected.fence || consumer.counter !== expected.counter) return undefined;
    consumer.owner = { ...owner };
    consumer.fence += 1;
    consumer.counter += 1;
    consumer.holdTime = holdTime;
    consumer.heir = undefined;
  }
  return { key, owner, fence: consumer.fence };
}

/** False if the lease is not as expected. */
export function requestLease(
  database: MemoryDatabase,
  key: ConsumerKey,
  heir: LeaseOwner | undefined,
  expected: LeaseState,
): boolean {
  const consumer = database.streams.get(key.stream)?.consumer(key);
  if (consumer === undefined || consumer.fence !== expected.fence) return false;
  const isAsExpected = consumer.heir?.id === expected.heir?.id;
  if (heir === undefined) {
    if (isAsExpected) consumer.heir = undefined;
    return isAsExpected;
  }
  if (consumer.owner === undefined) return false;
  // The answer to an earlier call may have been lost.
  if (!isAsExpected && consumer.heir !== undefined) return consumer.heir.id === heir.id;
  consumer.heir = { ...heir };
  return true;
}

/** Returns what its owner has to know: that it is lost, or that another process asks for it. */
export function renewLease(database: MemoryDatabase, { holdTime, note, ...lease }: Renewal): RenewalNotice | undefined {
  const consumer = findHeld(database, lease)?.consumer;
  if (consumer === undefined) return lease;
  consumer.counter += 1;
  consumer.holdTime = holdTime ?? consumer.holdTime;
  consumer.note = note ?? consumer.note;
  return consumer.heir && { ...lease, heir: { ...consumer.heir } };
}

export function releaseLease(database: MemoryDatabase, lease: Lease): void {
  const consumer = findHeld(database, lease)?.consumer;
  if (consumer === undefined) return;
  consumer.owner = undefined;
  consumer.holdTime = undefined;
  consumer.counter += 1;
}

export interface HeldConsumer {
  readonly stream: MemoryStream;
  readonly consumer: MemoryConsumer;
}

/** @throws LeaseLost */
export function held(database: MemoryDatabase, lease: Lease): HeldConsumer {
  const found = findHeld(database, lease);
  if (found === undefined) throw leaseLost(lease.key);
  return found;
}

function findHeld(database: MemoryDatabase, lease: Lease): HeldConsumer | undefined {
  const stream = database.streams.get(lease.key.stream);
  const consumer = stream?.consumer(lease.key);
  if (stream === undefined || consumer === undefined) return undefined;
  const isHeld = consumer.fence === lease.fence && consumer.owner?.id === lease.owner.id;
  return isHeld ? { stream, consumer } : undefined;
}

export function stateOf({ owner, heir, fence, counter, holdTime }: MemoryConsumer): LeaseState {
  return {
    ...(owner !== undefined && { owner: { ...owner } }),
    ...(heir !== undefined && { heir: { ...heir } }),
    fence,
    counter,
    ...(holdTime !== undefined && { holdTime }),
  };
}
