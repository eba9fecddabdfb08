import { hash } from 'node:crypto';

/** 128 bits: no two windows of a stream will ever meet. */
const DIGEST_LENGTH = 32;

/**
 * The public id of a window: `stream/group/digest`, with the partition before the digest unless it is 0.
 *
 * The digest is made of the message ids, whatever their order, and of nothing else: the same messages always give the
 * same id, so it serves sinks as idempotency key, and a late window never has the id of the main one. A window without
 * messages has nothing but its bounds to tell it from others.
 *
 * Windows by key and event time may overlap, so that several have the same messages: there the digest is also of what tells them apart.
 *
 * A `/` or `%` in a name is percent-encoded, so that no two consumers can make the same id.
 *
 * @param messageIds ids of the window's messages; may hold anything but NUL
 * @param bounds of a window without messages
 * @param name of a window that may have the same messages as another; may hold anything but NUL
 *
 * @returns `'flights/default/5d1c0e…'`, say
 */
export function windowId(
  stream: string,
  group: string,
  partition: number,
  messageIds: readonly string[],
  bounds: { readonly start?: Date; readonly end?: Date; readonly late?: boolean },
  name?: string,
): string {
  const content =
    messageIds.length > 0
      ? `messages\0${inOrder(messageIds).join('\0')}`
      : `empty\0${bounds.start?.getTime() ?? ''}\0${bounds.end?.getTime() ?? ''}${bounds.late ? '\0late' : ''}`;
  const named = name === undefined ? content : `${content}\0\0${name}`;
  const digest = hash('sha256', named, 'hex').slice(0, DIGEST_LENGTH);
  return `${escape(stream)}/${escape(group)}/${partition === 0 ? '' : `${partition}/`}${digest}`;
}

function inOrder(ids: readonly string[]): readonly string[] {
  const sorted = ids.every((id, i) => i === 0 || (ids[i - 1] as string) <= id);
  return sorted ? ids : ids.toSorted();
}

function escape(name: string): string {
  return name.replace(/[/%]/g, (character) => encodeURIComponent(character));
}
