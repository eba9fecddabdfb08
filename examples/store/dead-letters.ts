import {
  asRedriven,
  type ConsumerKey,
  type DeadLetter,
  type DeadLetterFilter,
  decodeMessage,
  encodedOf,
  type NewDeadLetter,
  shownOf,
} from 'nestjs-minibatch/store';
import { nextId } from './state.js';
import type { Letter, State, StreamState } from './state-file.js';

/** Does nothing if the group has a dead letter of this message already: the call may be a repeated one. */
export function addLetter(
  state: State,
  stream: StreamState,
  { group, partition }: ConsumerKey,
  { message, ...note }: NewDeadLetter,
): void {
  if (stream.letters.some((each) => each.group === group && each.messageId === message.id)) return;
  stream.letters.push({
    id: nextId(state),
    group,
    partition,
    messageId: message.id,
    encoded: encodedOf(message),
    note,
  });
}

export function matches({ id, group, note }: Letter, filter: DeadLetterFilter): boolean {
  if (filter.group !== undefined && filter.group !== group) return false;
  if (filter.ids !== undefined && !filter.ids.includes(id)) return false;
  return filter.before === undefined || note.died < filter.before;
}

export function toDeadLetter(stream: string, { id, group, messageId, encoded, note }: Letter): DeadLetter {
  const message = decodeMessage(messageId, encoded);
  const shown = shownOf(() => message.read());
  return { id, stream, group, messageId, created: message.created, ...shown, ...note };
}

/** Puts the messages back at the end of the stream, for the group of their dead letter; returns how many. */
export function redriveLetters(state: State, stream: StreamState, filter: DeadLetterFilter): number {
  const letters = stream.letters.filter((each) => stream.groups.includes(each.group) && matches(each, filter));
  for (const { group, partition, encoded } of letters) {
    const id = nextId(state);
    // For all other groups it counts as committed.
    const doneBy = new Set(stream.groups.filter((other) => other !== group));
    stream.messages.set(id, { id, partition, encoded: asRedriven(encoded), doneBy, kept: false });
  }
  stream.letters = stream.letters.filter((each) => !letters.includes(each));
  stream.revision += 1;
  return letters.length;
}
