import type { GroupKey, RegisterGroupOptions } from '../stream-store.interface.js';
import { unknownGroup } from '../../errors/store-faults.js';
import {
  addGroup,
  ensureStreamRecord,
  ensureTimeOrder,
  findStream,
  isWaitedFor,
  planCleanup,
  saveStream,
  saveTail,
  tailOf,
  withGroup,
} from './stream-records.js';
import { groupKey, Kind, prefixRange } from './keys.js';
import { renameLetterGroup } from './dead-letters.js';
import { decodeConsumer, encodeRecord, type StreamRecord } from './records.js';
import type { WriteView } from './view.js';

/** Returns whether records are left to clean up. */
export function register(view: WriteView, key: GroupKey, options: RegisterGroupOptions): boolean {
  let stream = ensureStreamRecord(view, key.stream);
  let leaves = false;
  const { replaces } = options;
  const known = stream.groups.find(({ name }) => name === key.group);
  const former = stream.groups.find(({ name }) => name === replaces);
  if (former !== undefined && former.name !== key.group) {
    if (known !== undefined && hasBegun(view, stream.id, known.id)) {
      // The group keeps what it has done under its own name.
      stream = forget(view, stream, former.id);
      leaves = true;
    } else {
      if (known !== undefined) {
        stream = forget(view, stream, known.id);
        leaves = true;
      }
      stream = withGroup(withoutFences(view, stream, former.id), former.id, { name: key.group });
      freeLeases(view, stream, former.id);
    }
    stream = renameLetterGroup(stream, former.name, key.group);
  }
  if (!stream.groups.some(({ name }) => name === key.group)) stream = addGroup(stream, key.group);
  saveStream(view, stream);
  if (options.timeOrder) ensureTimeOrder(view, stream.id);
  const tail = tailOf(view, stream.id);
  saveTail(view, stream.id, { ...tail, returns: tail.returns + 1 });
  return leaves;
}

/** @throws UnknownGroup */
export function remove(view: WriteView, streamName: string, groupName: string): void {
  const stream = findStream(view, streamName);
  const group = stream?.groups.find(({ name }) => name === groupName);
  if (stream === undefined || group === undefined) throw unknownGroup(streamName, groupName);
  saveStream(view, forget(view, stream, group.id));
}

/** True if a lease of the group has ever been held: only then does a consumer have a record. */
function hasBegun(view: WriteView, stream: number, group: number): boolean {
  return view.count(prefixRange(groupKey(Kind.Consumer, stream, group))) > 0;
}

/** Without its number, nothing finds the group's records; further transactions remove them. */
function forget(view: WriteView, stream: StreamRecord, group: number): StreamRecord {
  planCleanup(view, stream.id, group);
  const { keepers = [], groups } = stream;
  const keeps = groups.some(({ id, keeps: itKeeps }) => id === group && itKeeps) && isWaitedFor(view, stream.id, group);
  return {
    ...withoutFences(view, stream, group),
    groups: groups.filter(({ id }) => id !== group),
    ...(keeps && { keepers: [...keepers, group] }),
  };
}

/** The fences of the group's consumers are used up, also for later groups of the name. */
function withoutFences(view: WriteView, stream: StreamRecord, group: number): StreamRecord {
  let { removedFence = 1 } = stream;
  for (const { value } of view.entries(prefixRange(groupKey(Kind.Consumer, stream.id, group)))) {
    removedFence = Math.max(removedFence, decodeConsumer(value, `${stream.id}.${group}`).fence);
  }
  return { ...stream, removedFence };
}

/**
 * Leases that were held under the old name are lost, and the next candidate need not wait for them to expire. The new name may have
 * had a higher fence when it was in use before.
 */
function freeLeases(view: WriteView, { id, removedFence = 0 }: StreamRecord, group: number): void {
  for (const { key, value } of [...view.entries(prefixRange(groupKey(Kind.Consumer, id, group)))]) {
    const { owner: _, heir: __, ...consumer } = decodeConsumer(value, `${id}.${group}`);
    const fence = Math.max(consumer.fence, removedFence);
    view.put(key, encodeRecord({ ...consumer, fence, counter: consumer.counter + 1 }));
  }
}
