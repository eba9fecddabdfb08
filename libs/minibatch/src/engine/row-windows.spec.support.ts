import { ContentMessage, contentOf } from '../storage/content-message.js';
import { decodeValue, encodeValue } from '../storage/encoded-message.js';
import type { Window } from '../windows/window.js';
import type { Stage, StageChanges } from './engine.interface.js';

/** A message in a row: each has one of its own. */
interface StoredRow {
  readonly id: string;
  readonly created: Date;
  readonly bytes: number;
  readonly bson: Uint8Array;
  readonly int64: 'bigint' | 'auto';
}

interface KeyRow {
  readonly count: number;
  /** The row of its last message. */
  readonly last?: string;
}

/** The key of a message, which is a text that begins with it: `a1`, `a2`, `b1`. */
export const keyOf = (data: unknown): string => String(data).slice(0, 1);

/** For each message a window of it and the one before it of its key, so that each message is in two windows. */
async function run(window: Window, changes: StageChanges): Promise<void> {
  await changes.load(window.messages.map(({ data }) => `k/${keyOf(data)}`));
  for (const { id, data } of window.messages) {
    const key = keyOf(data);
    if (key === '?') {
      window.reject({ id } as never, new Error('no key'));
      continue;
    }
    const { count, last } = (changes.get(`k/${key}`) as KeyRow | undefined) ?? { count: 0 };
    const message = changes.stored(id);
    const { bson, int64 } = contentOf(message);
    const slot = `c/${key}/${count}`;
    changes.put(slot, { id, created: message.created, bytes: message.bytes, bson, int64 } satisfies StoredRow);
    changes.put(`k/${key}`, { count: count + 1, last: slot } satisfies KeyRow);
    const rows = last === undefined ? [slot] : [last, slot];
    changes.fire({
      ...{ name: `${key}/${count}`, lane: key, key, revision: 0, partial: last === undefined },
      ...{ start: count * 1_000, end: count * 1_000 + 2_000 },
      ...{ size: { messages: rows.length, bytes: message.bytes }, rows, content: rows },
      release: last === undefined ? [] : [last],
    });
  }
}

/** A stage that fires windows of its rows. */
export const pairs: Stage = {
  run,
  cacheBytes: 0,
  values: { encode: encodeValue, decode: (bytes) => decodeValue(Buffer.from(bytes)) },
  open: (content, rows) =>
    (content as readonly string[]).map((slot) => {
      const { id, created, bytes, bson, int64 } = rows.get(slot) as StoredRow;
      return new ContentMessage(id, created, bytes, { bson, int64 });
    }),
};

/** The windows of these messages, as `pairs` makes them: by key, in their order. */
export function pairsOf(data: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const windows = new Map<string, string[]>();
  const last = new Map<string, string>();
  for (const each of data) {
    const key = keyOf(each);
    const before = last.get(key);
    last.set(key, each);
    windows.set(key, [...(windows.get(key) ?? []), before === undefined ? each : `${before},${each}`]);
  }
  return windows;
}
