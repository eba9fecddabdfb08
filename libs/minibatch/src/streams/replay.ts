import { checkKeys, checkName, invalidOption } from '../common/checks.js';
import type { KeptRange, MessageId, StreamStore } from '../storage/stream-store.interface.js';
import { knownGroup } from './known-group.js';
import { needMethod } from './reading-options.js';

/** Which kept messages go to which group. Half-open: `from` belongs to the range, `to` does not. */
export interface ReplayOptions {
  /** The group that gets the messages again. @default 'default' */
  readonly group?: string;
  /** A time, compared with the messages' `created`; or the id of a message. @default the first kept message */
  readonly from?: Date | string;
  /** As `from`. @default the last message that is kept when the call begins */
  readonly to?: Date | string;
}

/** @throws MinibatchError `InvalidOptions`, `UnknownStream`, `UnknownGroup`, `StoreUnsupported` */
export async function replay(store: StreamStore, stream: string, given: unknown): Promise<number> {
  const where = `replay of '${stream}'`;
  checkKeys(where, given, ['group', 'from', 'to']);
  const { group: named = 'default', from: first, to: last } = given as Record<keyof ReplayOptions, unknown>;
  const group = checkName(where, 'group', named);
  const [from, to] = [checkBound(store, where, 'from', first), checkBound(store, where, 'to', last)];
  if (from !== undefined && to !== undefined && typeof from === typeof to && from >= to) {
    throw invalidOption(where, 'to', last, 'what comes behind `from`');
  }
  needMethod(store, where, 'replay');
  await knownGroup(store, stream, group);
  return (await store.replay?.(stream, group, rangeOf(from, to))) ?? 0;
}

function checkBound(
  store: StreamStore,
  where: string,
  option: 'from' | 'to',
  given: unknown,
): Date | MessageId | undefined {
  if (given === undefined) return undefined;
  if (given instanceof Date && !Number.isNaN(given.getTime())) return new Date(given);
  if (typeof given === 'string' && store.idPattern?.test(given) !== false) return given;
  throw invalidOption(where, option, given, 'a valid Date, or the id of a message, as `message.id`');
}

function rangeOf(from: Date | MessageId | undefined, to: Date | MessageId | undefined): KeptRange {
  return {
    ...(typeof from === 'string' && { from }),
    ...(typeof to === 'string' && { to }),
    ...((from instanceof Date || to instanceof Date) && {
      created: { ...(from instanceof Date && { from }), ...(to instanceof Date && { to }) },
    }),
  };
}
