import { leaseLost } from '../../errors/store-faults.js';
import type { ConsumerKey, Lease, LeaseOwner, LeaseState, Renewal, RenewalNotice } from '../stream-store.interface.js';
import { findPlace, findStream } from './stream-records.js';
import { DecodedRecords } from './decoded-records.js';
import { Kind, type Place, placeKey } from './keys.js';
import { type ConsumerRecord, decodeConsumer, encodeRecord, NEW_CONSUMER, type StreamRecord } from './records.js';
import type { ReadView, WriteView } from './view.js';

const consumers = new DecodedRecords<ConsumerRecord>(decodeConsumer);

/** A consumer whose lease was checked in the running transaction. */
export interface HeldConsumer {
  readonly stream: StreamRecord;
  readonly place: Place;
  readonly consumer: ConsumerRecord;
}

export function consumerAt(view: ReadView, stream: StreamRecord, place: Place): ConsumerRecord {
  const bytes = view.get(placeKey(Kind.Consumer, place));
  if (bytes === undefined) return newConsumer(stream);
  return consumers.decode(`${place.stream}.${place.group}.${place.partition}`, bytes);
}

function newConsumer({ removedFence = 0 }: StreamRecord): ConsumerRecord {
  return removedFence === 0 ? NEW_CONSUMER : { ...NEW_CONSUMER, fence: removedFence };
}

export function saveConsumer(view: WriteView, place: Place, consumer: ConsumerRecord): void {
  view.put(placeKey(Kind.Consumer, place), encodeRecord(consumer));
}

export function stateOf(consumer: ConsumerRecord): LeaseState {
  const { owner, fence, counter, holdTime } = consumer;
  const heir = heirOf(consumer);
  return {
    ...(owner !== undefined && { owner }),
    ...(heir !== undefined && { heir }),
    fence,
    counter,
    ...(holdTime !== undefined && { holdTime }),
  };
}

function heirOf({ heir, fence }: ConsumerRecord): LeaseOwner | undefined {
  return heir?.fence === fence ? heir.owner : undefined;
}

export function readLease(view: ReadView, key: ConsumerKey): LeaseState {
  const found = findPlace(view, key);
  if (found !== undefined) return stateOf(consumerAt(view, found.stream, found.place));
  const stream = findStream(view, key.stream);
  // A stream that was dropped and created again knows nothing of the consumer. Where groups were removed it may be one of them, and
  // must not come back.
  const isGone = (stream?.removedFence ?? 0) === 0;
  return { ...stateOf(stream ? newConsumer(stream) : NEW_CONSUMER), ...(isGone && { missing: true as const }) };
}

export function acquire(
  view: WriteView,
  key: ConsumerKey,
  owner: LeaseOwner,
  expected: LeaseState,
  holdTime: number | undefined,
): Lease | undefined {
  const found = findPlace(view, key);
  if (found === undefined) return undefined;
  const { stream, place } = found;
  const consumer = consumerAt(view, stream, place);
  const fence = expected.fence + 1;
  // The answer to an earlier call may have been lost: the lease is this owner's already.
  if (consumer.owner?.id === owner.id && consumer.fence === fence) return { key, owner, fence };
  if (consumer.fence !== expected.fence || consumer.counter !== expected.counter) return undefined;
  const { holdTime: _, heir: __, ...rest } = consumer;
  const counter = consumer.counter + 1;
  saveConsumer(view, place, { ...rest, owner, fence, counter, ...(holdTime !== undefined && { holdTime }) });
  return { key, owner, fence };
}

/** False if the lease is not as expected. */
export function request(
  view: WriteView,
  key: ConsumerKey,
  heir: LeaseOwner | undefined,
  expected: LeaseState,
): boolean {
  const found = findPlace(view, key);
  if (found === undefined) return false;
  const consumer = consumerAt(view, found.stream, found.place);
  if (consumer.fence !== expected.fence) return false;
  const present = heirOf(consumer);
  const isAsExpected = present?.id === expected.heir?.id;
  if (heir === undefined) {
    const { heir: _, ...rest } = consumer;
    if (isAsExpected) saveConsumer(view, found.place, rest);
    return isAsExpected;
  }
  if (consumer.owner === undefined) return false;
  // The answer to an earlier call may have been lost.
  if (!isAsExpected && present !== undefined) return present.id === heir.id;
  saveConsumer(view, found.place, { ...consumer, heir: { owner: heir, fence: consumer.fence } });
  return true;
}

/** Returns what its owner has to know: that it is lost, or that another process asks for it. */
export function renew(view: WriteView, { holdTime, note, ...lease }: Renewal): RenewalNotice | undefined {
  const held = findHeld(view, lease);
  if (held === undefined) return lease;
  const counter = held.consumer.counter + 1;
  saveConsumer(view, held.place, { ...held.consumer, counter, ...(holdTime !== undefined && { holdTime }) });
  // In a record of its own: that of the consumer is written with each commit.
  if (note !== undefined) view.put(placeKey(Kind.Note, held.place), Buffer.from(note));
  const heir = heirOf(held.consumer);
  return heir && { ...lease, heir };
}

export function release(view: WriteView, lease: Lease): void {
  const held = findHeld(view, lease);
  if (held === undefined) return;
  const { owner: _, holdTime: __, ...consumer } = held.consumer;
  saveConsumer(view, held.place, { ...consumer, counter: consumer.counter + 1 });
}

/** @throws LeaseLost */
export function held(view: ReadView, lease: Lease): HeldConsumer {
  const found = findHeld(view, lease);
  if (found === undefined) throw leaseLost(lease.key);
  return found;
}

function findHeld(view: ReadView, lease: Lease): HeldConsumer | undefined {
  const found = findPlace(view, lease.key);
  if (found === undefined) return undefined;
  const consumer = consumerAt(view, found.stream, found.place);
  if (consumer.fence !== lease.fence || consumer.owner?.id !== lease.owner.id) return undefined;
  return { ...found, consumer };
}
