import { newCounters, type MutableCounters, type SourceCounters } from '../source-counters.js';

/** What a source has seen since it was made. */
export interface CeleryEventCounters extends SourceCounters {
  /** Redis: events that arrived while too many were waiting, or that were not stored in time when the source was stopped. */
  readonly dropped: number;
  /** Messages without the task's name, because the event that carries it was not seen or has been forgotten. */
  readonly unnamed: number;
  /** Redis: times the connection was lost; what was sent meanwhile is lost. */
  readonly interruptions: number;
}

export type MutableCeleryCounters = MutableCounters & { -readonly [K in keyof CeleryEventCounters]: number };

export function newCeleryCounters(): MutableCeleryCounters {
  return { ...newCounters(), dropped: 0, unnamed: 0, interruptions: 0 };
}
