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

/**
 * Messages in the buffer that a group has committed, although the server refuses to record that in their documents: one has no room left,
 * does not pass the collection's validator, has a field that others have changed, or does not fit into a dead letter. They must neither hold up the group nor be delivered
 * to it again and again, so this process remembers and skips them. After a restart, the group receives them once more.
 */
export class Refusals {
  private readonly groups = new Map<MessageId, Set<string>>();
  /** Messages that the group has given up and that fit into no dead letter. */
  private readonly unburied = new Set<string>();
  /** Nobody was told of these yet. */
  private news: { readonly ids: Set<MessageId>; readonly reason: string } | undefined;

  /** `group`: undefined if every group has committed them. @throws MongoServerError if there are too many */
  add(ids: readonly mongo.ObjectId[], group: string | undefined, failure: WriteFailure): void {
    for (const id of ids) {
      if (!this.remember(id, group ?? EVERY_GROUP, failure)) continue;
      this.news ??= { ids: new Set(), reason: failure.errmsg ?? `error ${failure.code}` };
      this.news.ids.add(id.toHexString());
    }
  }

  /** A message that the group has given up does not fit into a dead letter: it stays, and the group skips it. */
  keepUnburied(id: mongo.ObjectId, group: string, failure: WriteFailure): void {
    this.remember(id, group, failure);
    this.unburied.add(`${id.toHexString()} ${group}`);
  }

  /** Those that were added since the call before. */
  take(): RefusedMessages | undefined {
    const { news } = this;
    this.news = undefined;
    return news && { ids: [...news.ids], reason: news.reason };
  }

  /** @returns false if it was known */
  private remember(id: mongo.ObjectId, group: string, failure: WriteFailure): boolean {
    const hex = id.toHexString();
    const known = this.groups.get(hex);
    if (known?.has(group)) return false;
    if (known) known.add(group);
    else if (this.groups.size < MOST) this.groups.set(hex, new Set([group]));
    else throwIfFailed({ n: 0, writeErrors: [failure] });
    return true;
  }

  isUnburied(id: MessageId, group: string): boolean {
    return this.unburied.size > 0 && this.unburied.has(`${id} ${group}`);
  }

  has(id: MessageId, group: string): boolean {
    const known = this.groups.get(id);
    return known !== undefined && (known.has(group) || known.has(EVERY_GROUP));
  }

  get isEmpty(): boolean {
    return this.groups.size === 0;
  }

  left(ids: readonly MessageId[]): void {
    for (const id of ids) this.groups.delete(id);
  }

  /** Excludes what none of the groups may read any more. */
  without(groups: readonly string[], toId: (id: MessageId) => mongo.ObjectId): mongo.Filter<BufferDocument>[] {
    if (this.isEmpty) return [];
    const ids = [...this.groups.keys()].filter((id) => groups.every((group) => this.has(id, group)));
    return ids.length === 0 ? [] : [{ _id: { $nin: ids.map(toId) } }];
  }
}
