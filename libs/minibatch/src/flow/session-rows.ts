import type { RowShape } from './call.js';
import type { ContentKind, Held } from './content.js';
import { keyFrom, slotOf, type StoredKey, storedKey } from './slot.js';

/** Messages of a key that follow one another at no more than `gap`. */
export interface Session {
  /** Of the first and the last message. */
  readonly start: number;
  readonly last: number;
  readonly held: Held;
  /** At which mark a session of late messages is fired; absent: it is not one. */
  readonly late?: number;
  /** Of a session of late messages: the first one. */
  readonly openedBy?: string;
  /** Messages in it; the one that was given at once is not. */
  readonly size: number;
}

/** All sessions of a key that have not been fired. */
export interface SessionRow {
  readonly key: string;
  sessions: Session[];
}

interface StoredSession {
  readonly start: number;
  readonly last: number;
  readonly content: unknown;
  readonly late?: number;
  readonly openedBy?: string;
  readonly size: number;
}

interface StoredSessions {
  readonly key: StoredKey;
  readonly sessions: readonly StoredSession[];
}

export const SESSIONS = 'k';

export const sessionSlot = (key: string) => slotOf(SESSIONS, key);

export function sessionShape(content: ContentKind, dueOf: (session: Session) => number): RowShape<SessionRow> {
  return {
    decode(value) {
      const { key, sessions } = value as StoredSessions;
      return {
        key: keyFrom(key),
        sessions: sessions.map(({ content: stored, ...facts }) => ({ ...facts, held: content.load(stored) })),
      };
    },
    encode: ({ key, sessions }) => ({
      value: {
        key: storedKey(key),
        sessions: sessions.map(({ held, ...facts }) => ({ ...facts, content: held.value })),
      } satisfies StoredSessions,
      due: Math.min(...sessions.map(dueOf)),
    }),
  };
}
