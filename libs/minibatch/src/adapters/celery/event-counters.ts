/** What a source has seen since it was made. */
export interface CeleryEventCounters {
  /** Events that came, of whatever type. */
  readonly received: number;
  /** Those of them that became messages and are stored. */
  readonly appended: number;
  /** Bodies, or parts of them, that are no events, whatever became of them. */
  readonly malformed: number;
  /** Messages that the stream could not store, whatever became of them. */
  readonly unstorable: number;
  /** Redis: events that came while too many were waiting, or that were not stored in time when the source was stopped. */
  readonly dropped: number;
  /** Messages without the task's name, because the event that tells it was not seen or is forgotten. */
  readonly unnamed: number;
  /** Redis: times the connection was lost; what was sent meanwhile is lost. */
  readonly interruptions: number;
}

export type Counts = { -readonly [K in keyof CeleryEventCounters]: number };

export function noCounts(): Counts {
  return { received: 0, appended: 0, malformed: 0, unstorable: 0, dropped: 0, unnamed: 0, interruptions: 0 };
}
