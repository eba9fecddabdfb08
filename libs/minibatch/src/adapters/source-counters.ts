/** What a source has done with messages since it was made, over all streams that it feeds in this process. */
export interface SourceCounters {
  /** Messages that arrived, redelivered ones included. */
  readonly received: number;
  /** Messages that were appended, or ignored as duplicates. */
  readonly appended: number;
  /** Messages that are not of the declared format, whatever became of them. */
  readonly malformed: number;
  /** Messages that were left out, by `malformed` or by `unstorable: 'skip'`. */
  readonly skipped: number;
  /** Messages that the stream cannot take, or that a function of the options threw for, each time they arrived and whatever became of them. */
  readonly unstorable: number;
}

export type MutableCounters = { -readonly [K in keyof SourceCounters]: number };

export function newCounters(): MutableCounters {
  return { received: 0, appended: 0, malformed: 0, skipped: 0, unstorable: 0 };
}
