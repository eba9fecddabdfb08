import type { mongo } from 'mongoose';
import type { MessageId, RefusedMessages } from '../stream-store.interface.js';
import { throwIfFailed, type WriteFailure, type WriteReply } from './raw-writes.js';
import type { BufferDocument } from './schemas/buffer.schema.js';

/** Error codes by which a server refuses to change one document, whatever else the command changes. */
const CODES = new Set([
  2, // BadValue: a field is not a list
  14, // TypeMismatch
  28, // PathNotViable
  121, // DocumentValidationFailure: the collection has a validator
  171, // CannotIndexParallelArrays
  10141, // BadValue on some servers
  10334, // BSONObjectTooLarge
  17419, // BSONObjectTooLarge as well
]);

/** More than this is no exception, but a collection that can't be written to as it is set up. */
const MOST = 1_000;
const EVERY_GROUP = '';

/** The statements of a write whose documents the server refused to change. @throws MongoServerError if another one failed */
export function refusedIn(reply: WriteReply): readonly WriteFailure[] {
  const failures = reply.writeErrors ?? [];
  if (reply.writeConcernError || failures.some(({ code }) => !CODES.has(code))) throwIfFailed(reply);
  return failures;
}

export function isRefusal(error: unknown): boolean {
  return error instanceof Error && CODES.has(Number(Reflect.get(error, 'code')));
}

/** How a group is done with a message that stays in the buffer. */
type Refusal =
  /** The group has committed it. */
  | 'committed'
  /** The group has given it up, and it fits into no dead letter. */
  | 'unburied';

/**
 * Messages in the buffer that a group has committed, although the server refuses to record that in their documents: one has no room left,
 * does not pass the collection's validator, has a field that others have changed, or does not fit into a dead letter. They must neither
 * hold up the group nor be delivered to it again and again, so this process remembers and skips them. After a restart, the group receives
 * them once more.
 */
export class Refusals {
  private readonly messages = new Map<MessageId, Map<string, Refusal>>();
  /** Those that no call has reported yet. */
  private unreported: { readonly ids: Set<MessageId>; readonly reason: string } | undefined;

  /** `group`: undefined if every group has committed them. @throws MongoServerError if there are too many */
  add(ids: readonly mongo.ObjectId[], group: string | undefined, failure: WriteFailure): void {
    for (const id of ids) {
      const hex = id.toHexString();
      const groups = this.remember(hex, failure);
      const name = group ?? EVERY_GROUP;
      if (groups.has(name)) continue;
      groups.set(name, 'committed');
      this.unreported ??= { ids: new Set(), reason: failure.errmsg ?? `error ${failure.code}` };
      this.unreported.ids.add(hex);
    }
  }

  /** A message that the group has given up does not fit into a dead letter: it stays, and the group skips it. */
  keepUnburied(id: mongo.ObjectId, group: string, failure: WriteFailure): void {
    this.remember(id.toHexString(), failure).set(group, 'unburied');
  }

  /** Those that were added since the call before. */
  takeUnreported(): RefusedMessages | undefined {
    const { unreported } = this;
    this.unreported = undefined;
    return unreported && { ids: [...unreported.ids], reason: unreported.reason };
  }

  isUnburied(id: MessageId, group: string): boolean {
    return this.messages.get(id)?.get(group) === 'unburied';
  }

  has(id: MessageId, group: string): boolean {
    const groups = this.messages.get(id);
    return groups !== undefined && (groups.has(group) || groups.has(EVERY_GROUP));
  }

  get isEmpty(): boolean {
    return this.messages.size === 0;
  }

  left(ids: readonly MessageId[]): void {
    for (const id of ids) this.messages.delete(id);
  }

  /** Excludes what none of the groups may read any more. */
  without(groups: readonly string[], toId: (id: MessageId) => mongo.ObjectId): mongo.Filter<BufferDocument>[] {
    if (this.isEmpty) return [];
    const ids = [...this.messages.keys()].filter((id) => groups.every((group) => this.has(id, group)));
    return ids.length === 0 ? [] : [{ _id: { $nin: ids.map(toId) } }];
  }

  /** The groups that are done with the message. */
  private remember(id: MessageId, failure: WriteFailure): Map<string, Refusal> {
    const known = this.messages.get(id);
    if (known) return known;
    if (this.messages.size >= MOST) throwIfFailed({ n: 0, writeErrors: [failure] });
    const groups = new Map<string, Refusal>();
    this.messages.set(id, groups);
    return groups;
  }
}
