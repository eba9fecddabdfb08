import assert from 'node:assert/strict';
import type {
  AppendOutcome,
  ConsumerKey,
  Effects,
  Lease,
  LeaseOwner,
  MessageId,
  NewDeadLetter,
  NewMessage,
  ReadWindow,
  SettleOptions,
  StateRow,
  StoredMessage,
  StreamStore,
  WindowRecord,
} from '../../storage/stream-store.interface.js';

export const STREAM = 'flights';
export const ALL = { messages: 10_000, bytes: Number.MAX_SAFE_INTEGER };
/** The time messages are created at unless a test says otherwise. */
export const NOON = Date.UTC(2024, 0, 1, 12);

/** Names that break what is built from names without care. */
export const HOSTILE_NAMES = [
  '__proto__',
  'constructor',
  'toString',
  '$set',
  'a.b',
  '.',
  ' ',
  '',
  'a/b\\c',
  '*',
  '\u0001\u001f\u007f',
  'naïve ✈ 航班 \u{1f6eb}',
  `long-${'x'.repeat(600)}`,
];

export function key(group = 'default', stream = STREAM, partition = 0): ConsumerKey {
  return { stream, group, partition };
}

export function owner(id: string): LeaseOwner {
  return { id, host: 'host', bootId: 'boot', pid: 1, startTime: '1' };
}

export function message(data: unknown, extra: Partial<NewMessage> = {}): NewMessage {
  return { stream: STREAM, data, created: new Date(NOON), ...extra };
}

export function numbers(count: number, extra: Partial<NewMessage> = {}): NewMessage[] {
  return Array.from({ length: count }, (_, n) => message({ n }, extra));
}

export async function append(store: StreamStore, ...messages: NewMessage[]): Promise<MessageId[]> {
  return (await store.append(messages)).map(stored);
}

/** Stores a source's position without messages. */
export async function storePosition(
  store: StreamStore,
  stream: string,
  source: string,
  position: unknown,
): Promise<void> {
  await store.append([], { checkpoints: [{ stream, source, position, from: 0, to: 0 }] });
}

export function stored(outcome: AppendOutcome | undefined): MessageId {
  assert.equal(outcome?.status, 'stored');
  return outcome.id;
}

export async function register(store: StreamStore, ...groups: string[]): Promise<void> {
  await store.ensureStream(STREAM);
  for (const group of groups) await store.registerGroup(key(group));
}

/** A stream with several partitions, and its groups. */
export async function partitioned(store: StreamStore, partitions: number, ...groups: string[]): Promise<void> {
  await store.ensureStream(STREAM, { partitions });
  await register(store, ...groups);
}

export async function acquire(store: StreamStore, consumer = key(), by = 'a'): Promise<Lease> {
  const [state] = await store.readLeases([consumer]);
  assert.ok(state);
  const lease = await store.acquireLease(consumer, owner(by), state);
  assert.ok(lease, 'the lease could not be acquired');
  return lease;
}

/** As a consumer's loop begins: the lease is acquired and the windows are adopted. */
export async function hold(store: StreamStore, consumer = key(), by = 'a'): Promise<Lease> {
  const lease = await acquire(store, consumer, by);
  await store.recover(lease);
  return lease;
}

export async function read(store: StreamStore, consumer = key()): Promise<readonly StoredMessage[]> {
  return (await store.fetch(consumer, undefined, ALL)).messages;
}

/** The `n`s of messages made by `numbers`. */
export function ns(messages: readonly StoredMessage[]): unknown[] {
  return messages.map(({ data }) => (data as { n: unknown }).n);
}

export function ids(messages: readonly { readonly id: MessageId }[]): MessageId[] {
  return messages.map(({ id }) => id);
}

export function windowOf(
  seq: number,
  messages: readonly { readonly id: MessageId }[],
  extra: Partial<WindowRecord> = {},
): WindowRecord {
  return {
    seq,
    id: `window-${seq}`,
    messageIds: ids(messages),
    created: new Date(NOON),
    attempt: 1,
    recoveries: 0,
    ...extra,
  };
}

export function progress(lastSeq: number, messages = 0): { lastSeq: number; windows: number; messages: number } {
  return { lastSeq, windows: lastSeq, messages };
}

/** Claims the messages as one window and commits it; what is left is to settle it. */
export async function claimAndCommit(
  store: StreamStore,
  lease: Lease,
  seq: number,
  messages: readonly StoredMessage[],
): Promise<{ window: WindowRecord; groups: readonly string[] }> {
  const window = windowOf(seq, messages);
  await store.claim(lease, [window]);
  const groups = await store.commit(lease, { finished: [seq], progress: progress(seq, messages.length) });
  return { window, groups };
}

/** The whole way of a window: claim, commit, settle. */
export async function finish(
  store: StreamStore,
  lease: Lease,
  seq: number,
  messages: readonly StoredMessage[],
  options: Partial<SettleOptions> = {},
): Promise<void> {
  const { window, groups } = await claimAndCommit(store, lease, seq, messages);
  await store.settle(lease, [{ window, messages }], { groups, keep: false, ...options });
}

/** The whole way of a window without messages that has effects. */
export async function finishWith(store: StreamStore, lease: Lease, seq: number, effects: Effects): Promise<void> {
  const window = windowOf(seq, []);
  await store.claim(lease, [window]);
  const groups = await store.commit(lease, {
    finished: [seq],
    progress: progress(seq),
    effects: new Map([[seq, effects]]),
  });
  await store.settle(lease, [{ window, messages: [] }], { groups, keep: false });
}

/** A row of a consumer's state with a number in it. */
export function row(slot: string, n: number, due?: Date): StateRow {
  return { slot, value: Uint8Array.from(Buffer.from(String(n))), ...(due && { due }) };
}

/** As it would have been given: an adapter may return a kind of bytes of its own. */
export function valueOf({ slot, value, due }: StateRow): StateRow {
  return { slot, value: Uint8Array.from(value), ...(due && { due }) };
}

/** A letter of the message. */
export function letterOf(given: StoredMessage, extra: Partial<NewDeadLetter> = {}): NewDeadLetter {
  return {
    message: given,
    window: 'window',
    consumer: 'Flights.report',
    attempts: 2,
    error: 'went wrong',
    died: new Date(NOON + 1),
    ...extra,
  };
}

/** Stores letters of the messages, without committing their window. */
export async function bury(
  store: StreamStore,
  lease: Lease,
  messages: readonly StoredMessage[],
  extra: (n: number) => Partial<NewDeadLetter> = () => ({}),
): Promise<void> {
  await store.bury(
    lease,
    messages.map((each, n) => letterOf(each, extra(n))),
  );
}

/** As a consumer gives messages up: their letters are stored, then their window is committed. */
export async function die(
  store: StreamStore,
  lease: Lease,
  seq: number,
  messages: readonly StoredMessage[],
  extra?: (n: number) => Partial<NewDeadLetter>,
): Promise<void> {
  await bury(store, lease, messages, extra);
  await finish(store, lease, seq, messages);
}

/** All kept messages, in pages of two. */
export async function readAllKept(store: StreamStore, stream = STREAM): Promise<StoredMessage[]> {
  const found: StoredMessage[] = [];
  for (let after: MessageId | undefined; ;) {
    const block = await store.readKept!(stream, after, { ...ALL, messages: 2 });
    found.push(...block.messages);
    if (!block.full) return found;
    after = block.messages.at(-1)?.id;
  }
}

/** All windows of the consumer in this state. */
export async function readAllWindows(
  store: StreamStore,
  state: 'claimed' | 'kept',
  consumer = key(),
  limit = 100,
): Promise<ReadWindow[]> {
  const found: ReadWindow[] = [];
  for (let after: string | undefined; ;) {
    const page = await store.readWindows!(consumer, state, after, limit);
    if (state === 'kept')
      assert.ok(page.windows.length <= limit, `${page.windows.length} windows in a page of ${limit}`);
    found.push(...page.windows);
    if (page.next === undefined) return found;
    after = page.next;
  }
}

/** Without undefined properties, and with the prototype of a plain object. */
export function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** By the code alone: an adapter may have its own copy of the package. */
export async function rejectsWith(code: string, promise: Promise<unknown>): Promise<void> {
  await assert.rejects(promise, (error: unknown) => {
    assert.equal((error as { code?: unknown }).code, code);
    return true;
  });
}

/** Numbers of the windows that are open. */
export async function openSeqs(store: StreamStore, lease: Lease): Promise<readonly number[]> {
  return (await store.recover(lease)).open.map(({ seq }) => seq);
}
