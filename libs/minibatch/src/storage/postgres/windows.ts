import { decodeMessage } from '../encoded-message.js';
import type {
  Block,
  ConsumerKey,
  FetchLimits,
  MessageId,
  ReadWindow,
  WindowPage,
  WindowRecord,
} from '../stream-store.interface.js';
import { claimedWindows } from './claims.js';
import type { Database } from './database.js';
import { afterNumber, hexSql } from './ids.js';
import { consumerOf, statement, STREAM, withinBytes } from './sql.js';
import { type PackedWindow, unpackWindow } from './window-codec.js';

const FINISHED = statement(`select to_json(finished) as finished from minibatch.consumer
  where stream = ${STREAM} and grp = $2 and partition = $3`);
const KEPT_WINDOWS = statement(`select number, settled, record, ids from minibatch.kept_window
  where stream = ${STREAM} and grp = $2 and partition = $3 and number > $4 order by number limit $5`);
const KEPT_MESSAGES = statement(
  withinBytes(
    `${hexSql('id')}, body`,
    `select id, body from minibatch.kept_message where stream = ${STREAM} and id > $2 order by id limit $3`,
    'id',
    '$4',
  ),
);

export async function readWindows(
  database: Database,
  key: ConsumerKey,
  state: 'claimed' | 'kept',
  after: string | undefined,
  limit: number,
): Promise<WindowPage> {
  return state === 'kept' ? keptWindows(database, key, after, limit) : { windows: await openWindows(database, key) };
}

export async function findWindow(
  database: Database,
  key: ConsumerKey,
  window: string,
): Promise<WindowRecord | undefined> {
  return (await claimedWindows(database, key)).find(({ id }) => id === window);
}

export async function readKept(
  database: Database,
  stream: string,
  after: MessageId | undefined,
  limits: FetchLimits,
): Promise<Block> {
  const rows = await database.rows<readonly [string, Buffer]>('read kept messages', KEPT_MESSAGES, [
    stream,
    afterNumber(after),
    limits.messages,
    limits.bytes,
  ]);
  const messages = rows.map(([id, body]) => decodeMessage(id, body));
  return { messages, full: isFull(messages, limits) };
}

/** Whether a read has ended at its limits. */
export function isFull(messages: readonly { readonly bytes: number }[], limits: FetchLimits): boolean {
  if (messages.length >= limits.messages) return true;
  let bytes = 0;
  for (const message of messages) bytes += message.bytes;
  return bytes >= limits.bytes;
}

async function openWindows(database: Database, key: ConsumerKey): Promise<ReadWindow[]> {
  const windows = await claimedWindows(database, key);
  const [consumer] = await database.query<{ finished: number[] }>('read windows', FINISHED, consumerOf(key));
  const finished = new Set(consumer?.finished);
  return windows.map((window) => (finished.has(window.seq) ? { ...window, finished: true } : window));
}

/** In the order of their commits. */
async function keptWindows(
  database: Database,
  key: ConsumerKey,
  after: string | undefined,
  limit: number,
): Promise<WindowPage> {
  const rows = await database.query<PackedWindow & { number: number; settled: number }>('read windows', KEPT_WINDOWS, [
    ...consumerOf(key),
    Number(after ?? 0),
    limit,
  ]);
  const windows = rows.map(({ settled, ...packed }) => ({ ...unpackWindow(packed), settled: new Date(settled) }));
  const last = rows.at(-1);
  return { windows, ...(last && rows.length >= limit && { next: String(last.number) }) };
}
