import type { RowShape } from './call.js';
import type { ContentKind, Held } from './content.js';
import type { Schedule, ScheduleRow } from './schedule.js';
import { keyFrom, slotOf, type StoredKey, storedKey } from './slot.js';

/** What a key has in one pane. It is not due: its key's schedule is. */
export interface PaneRow {
  readonly key: string;
  readonly pane: number;
  readonly held: Held;
}

interface StoredPane {
  readonly key: StoredKey;
  readonly pane: number;
  readonly content: unknown;
}

interface StoredSchedule {
  readonly key: StoredKey;
  readonly panes: readonly number[];
  readonly next: number;
  readonly closed?: readonly StoredClosed[];
  readonly filled?: number;
  /** All windows with messages have been given out: see `isOpenRow`. */
  readonly isFired?: true;
}

interface StoredClosed {
  readonly window: number;
  readonly held?: { readonly content: unknown };
  readonly revision?: number;
}

export const PANE = 'p';
export const SCHEDULE = 's';

export const paneSlot = (key: string, pane: number) => slotOf(PANE, key, pane);
export const scheduleSlot = (key: string) => slotOf(SCHEDULE, key);

export function paneShape(content: ContentKind): RowShape<PaneRow> {
  return {
    decode(value) {
      const { key, pane, content: stored } = value as StoredPane;
      return { key: keyFrom(key), pane, held: content.load(stored) };
    },
    encode: ({ key, pane, held }) => ({
      value: { key: storedKey(key), pane, content: held.value } satisfies StoredPane,
    }),
  };
}

export function scheduleShape(content: ContentKind, schedule: Schedule): RowShape<ScheduleRow> {
  return {
    decode: (value) => scheduleOf(value, content),
    encode: (row) => ({
      value: {
        key: storedKey(row.key),
        panes: row.panes,
        next: row.next,
        ...(row.closed.length > 0 && {
          closed: row.closed.map(({ window, held, revision }) => ({
            window,
            ...(held && { held: { content: held.value } }),
            ...(revision !== undefined && { revision }),
          })),
        }),
        ...(row.filled !== undefined && { filled: row.filled }),
        ...(schedule.nextFilled(row) === undefined && { isFired: true }),
      } satisfies StoredSchedule,
      due: schedule.due(row),
    }),
  };
}

export function scheduleOf(value: unknown, content: ContentKind): ScheduleRow {
  const { key, panes, next, closed = [], filled } = value as StoredSchedule;
  return {
    key: keyFrom(key),
    panes: [...panes],
    next,
    closed: closed.map(({ window, held, revision }) => ({
      window,
      ...(held && { held: content.load(held.content) }),
      ...(revision !== undefined && { revision }),
    })),
    ...(filled !== undefined && { filled }),
  };
}
