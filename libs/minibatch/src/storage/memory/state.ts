import { encodeMessage } from '../encoded-message.js';
import type { ConsumerKey, Effects, StateLimits, StatePage, StateRow } from '../stream-store.interface.js';
import { append } from './append.js';
import type { MemoryDatabase } from './memory.database.js';
import type { MemoryConsumer } from './memory.stream.js';

const SURROGATE = /[\uD800-\uDFFF]/;

/**
 * Effects of windows that this commit finishes; of a repeated commit they are there. To be called before the commit is noted.
 *
 * @throws AppendError if a message can't be stored; then nothing has changed
 */
export function applyEffects(
  database: MemoryDatabase,
  consumer: MemoryConsumer,
  effects: ReadonlyMap<number, Effects>,
): void {
  const applied = new Set(consumer.finished);
  const fresh = [...effects].filter(([seq]) => !applied.has(seq)).sort(([a], [b]) => a - b);
  // What can't be stored fails before anything changes.
  for (const [, { append: messages = [] }] of fresh) messages.forEach(encodeMessage);
  for (const [, each] of fresh) applyOne(database, consumer, each);
}

function applyOne(database: MemoryDatabase, { state }: MemoryConsumer, effects: Effects): void {
  const { put = [], remove = [], append: messages = [] } = effects;
  for (const row of put) state.set(row.slot, copyRow(row));
  for (const slot of remove) state.delete(slot);
  append(database, messages, {});
}

export function readState(database: MemoryDatabase, key: ConsumerKey, slots: readonly string[]): StateRow[] {
  const state = stateOf(database, key);
  return [...new Set(slots)].flatMap((slot) => state.get(slot) ?? []).map(copyRow);
}

export function dueState(
  database: MemoryDatabase,
  key: ConsumerKey,
  before: Date,
  after: Pick<StateRow, 'slot' | 'due'> | undefined,
  limits: StateLimits,
): StateRow[] {
  const due = [...stateOf(database, key).values()]
    .filter((row) => row.due !== undefined && row.due <= before && (after === undefined || byDue(after, row) < 0))
    .sort(byDue);
  return page(due, limits).map(copyRow);
}

export function listState(
  database: MemoryDatabase,
  key: ConsumerKey,
  after: string | undefined,
  limits: StateLimits,
): StatePage {
  const rest = [...stateOf(database, key).values()].filter(
    ({ slot }) => after === undefined || bySlot(after, slot) < 0,
  );
  rest.sort((a, b) => bySlot(a.slot, b.slot));
  const rows = page(rest, limits).map(copyRow);
  const last = rows.at(-1);
  return { rows, ...(last !== undefined && rows.length < rest.length && { next: last.slot }) };
}

function stateOf(database: MemoryDatabase, key: ConsumerKey): ReadonlyMap<string, StateRow> {
  return database.streams.get(key.stream)?.consumer(key)?.state ?? new Map<string, StateRow>();
}

function byDue(a: Pick<StateRow, 'slot' | 'due'>, b: Pick<StateRow, 'slot' | 'due'>): number {
  return (a.due?.getTime() ?? 0) - (b.due?.getTime() ?? 0) || bySlot(a.slot, b.slot);
}

/** By bytes of UTF-8: texts order the characters beyond the basic plane before the last ones in it. */
function bySlot(a: string, b: string): number {
  if (a === b) return 0;
  const isAbove = a > b ? 1 : -1;
  return SURROGATE.test(a) || SURROGATE.test(b) ? Buffer.compare(Buffer.from(a), Buffer.from(b)) : isAbove;
}

function page(rows: readonly StateRow[], { rows: most, bytes: mostBytes }: StateLimits): readonly StateRow[] {
  let bytes = 0;
  const end = rows.findIndex(({ value }, index) => {
    bytes += value.length;
    return index > 0 && (index >= most || bytes > mostBytes);
  });
  return end === -1 ? rows : rows.slice(0, end);
}

function copyRow({ slot, value, due }: StateRow): StateRow {
  return { slot, value: Uint8Array.from(value), ...(due !== undefined && { due: new Date(due) }) };
}
