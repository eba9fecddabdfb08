import { unknownGroup } from '../../errors/store-faults.js';
import type { GroupKey, RegisterGroupOptions } from '../stream-store.interface.js';
import { consumerName, type MemoryConsumer, type MemoryStream } from './memory.stream.js';
import type { MemoryDatabase } from './memory.database.js';

export function registerGroup(database: MemoryDatabase, key: GroupKey, { replaces }: RegisterGroupOptions): void {
  const stream = database.ensure(key.stream);
  if (replaces !== undefined && replaces !== key.group && stream.groups.has(replaces)) {
    // The group keeps what it has done under its own name.
    if (hasBegun(stream, key.group)) forget(stream, replaces);
    else {
      forget(stream, key.group);
      rename(stream, replaces, key.group);
    }
    stream.letters.rename(replaces, key.group);
  }
  stream.groups.add(key.group);
  stream.ensureConsumers(key.group);
  stream.revision += 1;
}

/** @throws UnknownGroup */
export function removeGroup(database: MemoryDatabase, name: string, group: string): void {
  const stream = database.streams.get(name);
  if (!stream?.groups.has(group)) throw unknownGroup(name, group);
  forget(stream, group);
}

/** True if a lease of the group has ever been held. */
function hasBegun(stream: MemoryStream, group: string): boolean {
  return consumersOf(stream, group).some(({ fence, firstFence }) => fence > firstFence);
}

/** The group continues under another name, with everything that belongs to it. */
function rename(stream: MemoryStream, from: string, to: string): void {
  // In place, so that the order of the groups stays.
  stream.groups = new Set([...stream.groups].map((name) => (name === from ? to : name)));
  for (const consumer of consumersOf(stream, from)) {
    stream.consumers.delete(consumerName(from, consumer.partition));
    consumer.group = to;
    stream.retireFence(consumer);
    // The new name may have had a higher fence when it was in use before.
    consumer.fence = stream.removedFence;
    // A lease that was held under the old name is lost, and the next candidate need not wait for it to expire.
    consumer.owner = undefined;
    consumer.heir = undefined;
    consumer.counter += 1;
    stream.consumers.set(consumerName(to, consumer.partition), consumer);
  }
  stream.keptWindows.rename(from, to);
  for (const { doneBy } of stream.messages.after(undefined)) if (doneBy.delete(from)) doneBy.add(to);
}

/** Removes the group, its windows and its progress, and the messages that only it held back. */
function forget(stream: MemoryStream, group: string): void {
  stream.groups.delete(group);
  stream.keptWindows.rename(group, undefined);
  for (const consumer of consumersOf(stream, group)) {
    stream.retireFence(consumer);
    stream.consumers.delete(consumerName(group, consumer.partition));
  }
  const rest = [...stream.groups];
  const now = new Date();
  for (const entry of [...stream.messages.after(undefined)]) {
    entry.doneBy.delete(group);
    // If no group is left, nobody has seen the messages: they wait for the next one.
    if (rest.length > 0 && rest.every((other) => entry.doneBy.has(other))) stream.remove(entry, now);
  }
}

function consumersOf(stream: MemoryStream, group: string): MemoryConsumer[] {
  return [...stream.consumers.values()].filter((consumer) => consumer.group === group);
}
