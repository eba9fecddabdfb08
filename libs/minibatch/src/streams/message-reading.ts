import { ErrorCode, messageOf, MinibatchError } from '../errors/minibatch.error.js';
import { checkKeys, checkName } from '../common/checks.js';
import { consumersOf } from '../storage/partitions.js';
import type {
  Block,
  ConsumerKey,
  FetchLimits,
  MessageId,
  StoredMessage,
  StreamStore,
} from '../storage/stream-store.interface.js';
import type { Message } from '../windows/message.js';
import type { Stored } from '../windows/stored.js';
import { checkGroup } from './known-group.js';
import { pagedWindows } from './paged-windows.js';
import { checkId, checkState, needMethod } from './reading-options.js';

/**
 * Where a message is on its way. `waiting`: no window has it. `claimed`: an open window has it, so a handler works on it or will.
 * `kept`: all groups have committed it, and one of them keeps what it commits.
 */
export type MessageState = 'waiting' | 'claimed' | 'kept';

/** Which messages of a stream; those that match all that is given. */
export interface MessageFilter {
  /** Only messages behind this one, which need not be there any more: `message.id`. @default the start */
  readonly after?: string;
  /** Only messages in this state. @default all */
  readonly state?: MessageState;
  /** Only what this group has not committed, by its own windows. Kept messages are those of all groups. @default all groups */
  readonly group?: string;
}

/** A message as it lies in a stream. */
export interface StreamMessage<T = unknown> extends Message<Stored<T>> {
  readonly state: MessageState;
  /** Size as stored. */
  readonly bytes: number;
  /**
   * Why the message can't be decoded in JavaScript; absent if it can. Then there is no key and no headers, and `data` throws an error
   * with the code `MINIBATCH_UNDECODABLE`.
   */
  readonly undecodable?: string;
}

const STATES: readonly MessageState[] = ['waiting', 'claimed', 'kept'];

/** Of one read, for all groups together. */
const PAGE: FetchLimits = { messages: 1_000, bytes: 4 * 1024 * 1024 };
/** The least bytes of a read for one of many groups. */
const LEAST_BYTES = 64 * 1024;

/** What the groups that are asked about have in the buffer. */
interface Page {
  readonly messages: readonly { readonly message: StoredMessage; readonly state: MessageState }[];
  /** All up to this id are in it; undefined if it reaches to the end. */
  readonly until: MessageId | undefined;
}

/** The ids of messages in windows of one group. */
interface Claims {
  readonly claimed: ReadonlySet<MessageId>;
  /** In windows whose commit is recorded: the group needs them no more, although they have not left yet. */
  readonly finished: ReadonlySet<MessageId>;
}

/**
 * Looks into streams, without a lease and without a write: a consumer does not notice. It reads page by page, and looks at the windows
 * again for each page, so what it gives is right as of that page.
 */
export class MessageReading {
  constructor(private readonly store: StreamStore) {}

  /** @throws MinibatchError `InvalidOptions`, `UnknownGroup`, `StoreUnsupported` */
  async *messages(stream: string, given: MessageFilter): AsyncGenerator<StreamMessage, void, undefined> {
    const where = `messages of '${stream}'`;
    const { after, state, group } = this.checkFilter(where, given);
    const isBuffered = state !== 'kept';
    const isKept = state === undefined || state === 'kept';
    if (isBuffered) needMethod(this.store, where, 'readWindows');
    if (isKept) needMethod(this.store, where, 'readKept');
    const info = await this.store.describeStream(stream);
    if (info === undefined) return;
    if (group !== undefined) checkGroup(info, group);
    // Nobody has committed anything of a stream without groups.
    const groups = group !== undefined ? [group] : info.groups.length === 0 ? ['default'] : info.groups;
    const consumers = consumersOf(info, groups);
    const shown = (message: StoredMessage, as: MessageState) => toStreamMessage(stream, message, as);
    if (!isBuffered) {
      for await (const message of this.kept(stream, after, undefined)) yield shown(message, 'kept');
      return;
    }
    for (let from = after; ;) {
      const page = await this.page(consumers, from, state);
      if (page === undefined) return;
      // Read behind the page: what is committed between the two is in both, and not in neither.
      const kept = isKept ? this.kept(stream, from, page.until) : undefined;
      yield* merged(
        page.messages.filter((each) => state === undefined || each.state === state),
        kept,
        shown,
      );
      if (page.until === undefined) return;
      from = page.until;
    }
  }

  /** Undefined if nothing is left that could be claimed, and nothing else is asked for. */
  private async page(
    consumers: readonly ConsumerKey[],
    after: MessageId | undefined,
    state: MessageState | undefined,
  ): Promise<Page | undefined> {
    // The windows first: what is committed meanwhile has left the buffer when that is read.
    const claims = new Map<ConsumerKey, Claims>();
    for (const key of consumers) claims.set(key, await this.claims(key));
    if (state === 'claimed' && !isLeft(claims.values(), after)) return undefined;
    const bytes = Math.max(LEAST_BYTES, Math.floor(PAGE.bytes / consumers.length));
    const limits: FetchLimits = { ...PAGE, bytes, aside: true };
    const found = new Map<MessageId, { message: StoredMessage; state: MessageState }>();
    let until: MessageId | undefined;
    for (const key of consumers) {
      const block = await this.store.fetch(key, after, limits);
      const end = block.full ? endOf(block) : undefined;
      if (end !== undefined && (until === undefined || end < until)) until = end;
      const { claimed, finished } = claims.get(key) ?? NO_CLAIMS;
      for (const message of block.messages) {
        if (finished.has(message.id)) continue;
        const isClaimed = claimed.has(message.id) || found.get(message.id)?.state === 'claimed';
        // A consumer would commit it unseen.
        if (message.cleared && !isClaimed) continue;
        found.set(message.id, { message, state: isClaimed ? 'claimed' : 'waiting' });
      }
    }
    const end = until;
    return {
      messages: [...found.values()]
        .filter(({ message }) => end === undefined || message.id <= end)
        .toSorted((a, b) => (a.message.id < b.message.id ? -1 : 1)),
      until,
    };
  }

  private async claims(key: ConsumerKey): Promise<Claims> {
    const claimed = new Set<MessageId>();
    const finished = new Set<MessageId>();
    for await (const window of pagedWindows(this.store, key, 'claimed')) {
      for (const id of window.messageIds) (window.finished ? finished : claimed).add(id);
    }
    return { claimed, finished };
  }

  /** After the one id, up to the other one. */
  private async *kept(
    stream: string,
    after: MessageId | undefined,
    until: MessageId | undefined,
  ): AsyncGenerator<StoredMessage, void, undefined> {
    for (let from = after; ;) {
      const block = await this.store.readKept?.(stream, from, PAGE);
      for (const message of block?.messages ?? []) {
        if (until !== undefined && message.id > until) return;
        yield message;
      }
      from = block?.full ? endOf(block) : undefined;
      if (from === undefined) return;
    }
  }

  private checkFilter(where: string, given: unknown): MessageFilter {
    checkKeys(where, given, ['after', 'state', 'group']);
    const { after, state, group } = given as Record<keyof MessageFilter, unknown>;
    return {
      ...(after === undefined ? {} : { after: checkId(this.store, where, 'after', after) }),
      ...(state === undefined ? {} : { state: checkState(where, state, STATES) }),
      ...(group === undefined ? {} : { group: checkName(where, 'group', group) }),
    };
  }
}

const NO_CLAIMS: Claims = { claimed: new Set(), finished: new Set() };

/** Whether a message behind the id is claimed. */
function isLeft(claims: Iterable<Claims>, after: MessageId | undefined): boolean {
  for (const { claimed } of claims) for (const id of claimed) if (after === undefined || id > after) return true;
  return false;
}

function endOf({ messages }: Block): MessageId | undefined {
  return messages.at(-1)?.id;
}

/** Both in the order of their ids. What is in both has been committed and kept in between. */
async function* merged(
  buffered: Page['messages'],
  kept: AsyncIterable<StoredMessage> | undefined,
  shown: (message: StoredMessage, as: MessageState) => StreamMessage,
): AsyncGenerator<StreamMessage, void, undefined> {
  let at = 0;
  for await (const message of kept ?? []) {
    for (let next = buffered[at]; next !== undefined && next.message.id <= message.id; next = buffered[at]) {
      at += 1;
      if (next.message.id < message.id) yield shown(next.message, next.state);
    }
    yield shown(message, 'kept');
  }
  for (const { message, state } of buffered.slice(at)) yield shown(message, state);
}

/** Decoded here, so that a message that can't be decoded says so when its data are read, and reading continues. */
function toStreamMessage(stream: string, message: StoredMessage, state: MessageState): StreamMessage {
  const { id, bytes } = message;
  try {
    return { ...message.read(), state, bytes };
  } catch (cause) {
    const undecodable = messageOf(cause);
    const shown = { id, created: message.created, state, bytes, undecodable };
    // Not enumerable: what copies or prints the message is not to fail.
    return Object.defineProperty(shown, 'data', {
      get(): never {
        throw new MinibatchError(
          ErrorCode.Undecodable,
          `message ${id} of '${stream}' can't be decoded: ${undecodable}. Its bytes are kept as they are`,
          { cause, details: { stream, message: id } },
        );
      },
    }) as typeof shown & { readonly data: never };
  }
}
