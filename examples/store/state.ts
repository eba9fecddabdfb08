import {
  allPartitions,
  AppendError,
  type AppendOutcome,
  type Checkpoint,
  changedRequests,
  type ConsumerKey,
  createdOf,
  decodeMessage,
  encodeMessage,
  encodeValue,
  ErrorCode,
  type FailedCheckpoint,
  grown,
  isDue,
  isRedriven,
  type Lease,
  leaseLost,
  type LeaseOwner,
  type LeaseState,
  type MessageId,
  MinibatchError,
  type NewMessage,
  type NewStream,
  NO_PROGRESS,
  placeIn,
  type Renewal,
  type RenewalNotice,
  type SettledWindow,
  type SettleOptions,
  type StoredMessage,
  type StreamInfo,
  type StreamStats,
  type StreamUpdate,
} from 'nestjs-minibatch/store';
import type { Consumer, Entry, State, StreamState } from './state-file.js';

// ---- streams

/** One sequence for all streams, of fixed width: ids sort as they were given. */
export function nextId(state: State): MessageId {
  state.lastId += 1;
  return state.lastId.toString(16).padStart(14, '0');
}

export function ensureStream(state: State, name: string, made: NewStream = {}): StreamState {
  const known = state.streams.get(name);
  if (known) return known;
  const stream: StreamState = {
    name,
    serial: nextId(state),
    created: new Date(),
    status: 'init',
    paused: false,
    flushes: 0,
    clearings: 0,
    clearedTo: '',
    requests: [],
    partitioning: made.partitions === undefined ? {} : { partitions: made.partitions },
    groups: [],
    consumers: [],
    removedFence: 0,
    messages: new Map(),
    dedupe: new Map(),
    keptMessages: [],
    keptWindows: [],
    letters: [],
    checkpoints: new Map(),
    revision: 0,
  };
  state.streams.set(name, stream);
  return stream;
}

export function updateStream(stream: StreamState, change: StreamUpdate): void {
  if (change.grow) {
    stream.partitioning = grown(stream.name, stream.partitioning, change.grow);
    for (const group of stream.groups) ensureConsumers(stream, group);
  }
  if (change.status !== undefined && change.status !== stream.status) {
    stream.status = change.status;
    if (change.status === 'closed') stream.closed = new Date();
    else delete stream.closed;
  }
  stream.paused = change.paused ?? stream.paused;
  if (change.flush) stream.flushes += 1;
  if (change.clear) {
    stream.clearings += 1;
    stream.clearedTo = [...stream.messages.keys()].at(-1) ?? stream.clearedTo;
  }
  stream.requests = changedRequests(stream.requests, change);
}

export function infoOf({ name, status, created, closed, groups, paused, flushes, ...rest }: StreamState): StreamInfo {
  const { clearings, requests, partitioning } = rest;
  return {
    name,
    status,
    created,
    ...(closed !== undefined && { closed }),
    groups: [...groups],
    paused,
    flushes,
    ...(clearings > 0 && { clearings }),
    ...(requests.length > 0 && { requests }),
    ...partitioning,
  };
}

export function statsOf(stream: StreamState): StreamStats {
  const entries = [...stream.messages.values()];
  const times = entries.map(({ encoded }) => createdOf(encoded).getTime());
  return {
    ...infoOf(stream),
    buffered: entries.length,
    ...(times.length > 0 && { oldest: new Date(Math.min(...times)) }),
    deadLetters: stream.letters.length,
    consumers: stream.groups.flatMap((group) =>
      consumersOf(stream, group).map((consumer) => {
        const { partition, progress, windows, note } = consumer;
        const pending = entries.filter((entry) => isVisible(entry, { group, partition })).length;
        const counts = { openWindows: windows.size, pending };
        return { group, partition, lease: leaseOf(consumer), progress, ...counts, ...(note !== undefined && { note }) };
      }),
    ),
  };
}

// ---- groups and leases

export function findConsumer(stream: StreamState | undefined, { group, partition }: ConsumerKey): Consumer | undefined {
  return stream?.consumers.find((each) => each.group === group && each.partition === partition);
}

/** In all partitions. */
export function ensureConsumers(stream: StreamState, group: string): void {
  for (const partition of allPartitions(stream.partitioning))
    ensureConsumer(stream, { stream: stream.name, group, partition });
}

export function ensureConsumer(stream: StreamState, key: ConsumerKey): Consumer {
  const known = findConsumer(stream, key);
  if (known) return known;
  const { group, partition } = key;
  const fence = stream.removedFence;
  const consumer: Consumer = {
    group,
    partition,
    fence,
    firstFence: fence,
    counter: 0,
    progress: NO_PROGRESS,
    finished: [],
    windows: new Map(),
  };
  stream.consumers.push(consumer);
  return consumer;
}

/** `to` takes the place of `from`, unless it has already done something under its own name. */
export function replaceGroup(stream: StreamState, from: string, to: string): void {
  if (!stream.groups.includes(from)) return;
  if (consumersOf(stream, to).some(({ fence, firstFence }) => fence > firstFence)) forgetGroup(stream, from);
  else {
    forgetGroup(stream, to);
    stream.groups = stream.groups.map((name) => (name === from ? to : name));
    for (const consumer of consumersOf(stream, from)) {
      consumer.group = to;
      retireFence(stream, consumer);
      // The former holder has lost the lease.
      consumer.fence = stream.removedFence;
      endLease(consumer);
      delete consumer.heir;
    }
    for (const { doneBy } of stream.messages.values()) if (doneBy.delete(from)) doneBy.add(to);
  }
  stream.letters = stream.letters.map((letter) => (letter.group === from ? { ...letter, group: to } : letter));
}

/** Removes the group, its windows and its progress, and the messages that only it held back. */
export function forgetGroup(stream: StreamState, group: string): void {
  for (const consumer of consumersOf(stream, group)) retireFence(stream, consumer);
  stream.groups = stream.groups.filter((name) => name !== group);
  stream.consumers = stream.consumers.filter((consumer) => consumer.group !== group);
  for (const entry of [...stream.messages.values()]) {
    entry.doneBy.delete(group);
    const isDone = stream.groups.every((other) => entry.doneBy.has(other));
    // If no group is left, nobody has seen the messages: they wait for the next one.
    if (isDone && stream.groups.length > 0) removeMessage(stream, entry, new Date());
  }
}

export function leaseOf({ owner, heir, fence, counter, holdTime }: Consumer): LeaseState {
  return { ...(owner && { owner }), ...(heir && { heir }), fence, counter, ...(holdTime && { holdTime }) };
}

/** What the owner has to know: that the lease is lost, or that another process asks for it. */
export function renewLease(state: State, { holdTime, note, ...lease }: Renewal): RenewalNotice[] {
  const consumer = findHeld(state, lease)?.consumer;
  if (consumer === undefined) return [lease];
  consumer.counter += 1;
  if (holdTime !== undefined) consumer.holdTime = holdTime;
  if (note !== undefined) consumer.note = note;
  return consumer.heir ? [{ ...lease, heir: consumer.heir }] : [];
}

export function endLease(consumer: Consumer): void {
  delete consumer.owner;
  delete consumer.holdTime;
  consumer.counter += 1;
}

/** False if the lease is not as expected. */
export function changeHeir(
  consumer: Consumer | undefined,
  heir: LeaseOwner | undefined,
  expected: LeaseState,
): boolean {
  if (consumer?.fence !== expected.fence) return false;
  const isAsExpected = consumer.heir?.id === expected.heir?.id;
  if (heir === undefined) {
    if (isAsExpected) delete consumer.heir;
    return isAsExpected;
  }
  if (consumer.owner === undefined) return false;
  if (!isAsExpected && consumer.heir !== undefined) return consumer.heir.id === heir.id;
  consumer.heir = heir;
  return true;
}

export interface HeldConsumer {
  readonly stream: StreamState;
  readonly consumer: Consumer;
}

export function findHeld(state: State, { key, owner, fence }: Lease): HeldConsumer | undefined {
  const stream = state.streams.get(key.stream);
  const consumer = findConsumer(stream, key);
  if (stream === undefined || consumer?.fence !== fence || consumer.owner?.id !== owner.id) return undefined;
  return { stream, consumer };
}

/** @throws LeaseLost */
export function held(state: State, lease: Lease): HeldConsumer {
  const found = findHeld(state, lease);
  if (found === undefined) throw leaseLost(lease.key);
  return found;
}

function consumersOf(stream: StreamState, group: string): Consumer[] {
  return stream.consumers.filter((consumer) => consumer.group === group);
}

/** Later consumers begin with a fence that is not below this consumer's. */
function retireFence(stream: StreamState, { fence }: Consumer): void {
  stream.removedFence = Math.max(stream.removedFence, fence, 1);
}

// ---- messages

type Encoded = { readonly message: NewMessage; readonly encoded: Buffer };
type Failed = Extract<AppendOutcome, { readonly status: 'failed' }>;

/** Before the change: a message that can't be encoded fails alone. */
export function encode(message: NewMessage): Encoded | Failed {
  try {
    return { message, encoded: encodeMessage(message) };
  } catch (error) {
    return { status: 'failed', error: appendError(error, 'no') };
  }
}

export function appendOne(state: State, { message, encoded }: Encoded): AppendOutcome {
  const stream = ensureStream(state, message.stream);
  const { dedupeId } = message;
  if (dedupeId !== undefined && stream.dedupe.has(dedupeId)) return { status: 'duplicate' };
  const id = nextId(state);
  const partition = placeIn(stream.partitioning, message.partition);
  const entry = { id, partition, encoded, doneBy: new Set<string>(), kept: false };
  stream.messages.set(id, { ...entry, ...(dedupeId !== undefined && { dedupeId }) });
  if (dedupeId !== undefined) stream.dedupe.set(dedupeId, undefined);
  stream.revision += 1;
  return { status: 'stored', id };
}

/** Stores the positions that are due; returns those that could not be stored. */
export function storeCheckpoints(
  state: State,
  checkpoints: readonly Checkpoint[],
  outcomes: readonly AppendOutcome[],
): FailedCheckpoint[] {
  const failed: FailedCheckpoint[] = [];
  for (const checkpoint of checkpoints) {
    if (!isDue(checkpoint, outcomes)) continue;
    try {
      const position = encodeValue(checkpoint.position);
      ensureStream(state, checkpoint.stream).checkpoints.set(checkpoint.source, position);
    } catch (error) {
      failed.push({ checkpoint, error });
    }
  }
  return failed;
}

export function appendError(error: unknown, stored: 'no' | 'unknown'): AppendError {
  if (error instanceof AppendError) return error;
  const code = error instanceof MinibatchError ? error.code : ErrorCode.AppendFailed;
  const reason = error instanceof Error ? error.message : String(error);
  return new AppendError(code, `append failed: ${reason}`, stored, { cause: error });
}

export function isVisible(entry: Entry, { group, partition }: Pick<ConsumerKey, 'group' | 'partition'>): boolean {
  return entry.partition === partition && !entry.doneBy.has(group);
}

export function isCleared({ clearedTo }: StreamState, { id, encoded }: Entry): boolean {
  return id <= clearedTo && !isRedriven(encoded);
}

export function toMessage(stream: StreamState, entry: Entry): StoredMessage {
  const message = decodeMessage(entry.id, entry.encoded);
  return isCleared(stream, entry) ? Object.assign(message, { cleared: true }) : message;
}

export function settleWindow(
  stream: StreamState,
  { group, windows }: Consumer,
  { window, messages }: SettledWindow,
  { groups, keep, at = new Date() }: SettleOptions,
): void {
  // A group that was removed after the commit point holds nothing back.
  const waiting = groups.filter((other) => other !== group && stream.groups.includes(other));
  for (const { id } of messages) {
    const entry = stream.messages.get(id);
    if (entry === undefined) continue;
    entry.doneBy.add(group);
    if (keep) entry.kept = true;
    if (waiting.every((other) => entry.doneBy.has(other))) removeMessage(stream, entry, at);
  }
  if (windows.delete(window.seq) && keep) stream.keptWindows.push({ settled: at, window });
}

/** Takes the message out of the buffer. Its dedupe id stays as a tombstone. */
export function removeMessage(stream: StreamState, entry: Entry, settled: Date): void {
  stream.messages.delete(entry.id);
  if (entry.dedupeId !== undefined) stream.dedupe.set(entry.dedupeId, settled);
  if (entry.kept) stream.keptMessages.push({ settled, entry });
}
