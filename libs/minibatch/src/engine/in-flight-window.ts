import type { NewDeadLetter, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import type { Bisection } from './bisection.js';
import type { Admission } from './rate-limit.js';
import type { SinkSkips } from './sink-skips.js';

/** A claimed window on its way through the loop: ready, running, set aside, finished, committing. */
export interface InFlightWindow {
  /** As it lies in the store; replaced when an attempt failed. */
  record: WindowRecord;
  readonly messages: readonly StoredMessage[];
  /** What the handler gets of them: all but those that can't be decoded, which are dead letters. */
  readable: readonly StoredMessage[];
  /** Sum of their sizes. */
  readonly bytes: number;
  /** Open when a process was cut off: it may be what ended it. */
  readonly suspect: boolean;
  /** Started out of order: a successor can't tell by its place that its handler may have been running. */
  noted: boolean;
  /** It failed while it was tried to see whether anything works: others are better for that. */
  doubted: boolean;
  /** Present while it is taken apart; ahead of `record.split`, which is what was stored last. */
  apart: TakenApart | undefined;
  /** How often it was tried to see whether anything works. */
  probes: number;
  /** An operator gives it up. */
  givenUp: boolean;
  /** Sinks whose failure is not to keep the window; made when an operator asks for it. */
  skips: SinkSkips | undefined;
  /** The rate limit lets its next run begin. */
  admission: Admission | undefined;
  /** Ends its waits for the next attempt or for a sink; made by the first of them. */
  stop: AbortController | undefined;
}

export interface TakenApart {
  bisection: Bisection;
  /** It failed as a whole only once, as a probe: what follows is no bisection yet. */
  isProbed: boolean;
  /** Given up and not stored yet. They are stored before a state that does not name them. */
  letters: NewDeadLetter[];
  /** Given up so far in this process. */
  buried: number;
  /** Monotonic time of the last save. */
  savedAt: number;
  /** What the handler failed with last. */
  error: string;
  /** Runs of the handler that had begun when a message failed alone last: see `Evidence`. */
  failedAt: number;
}

export function inFlightWindow(
  record: WindowRecord,
  messages: readonly StoredMessage[],
  suspect = false,
): InFlightWindow {
  return {
    record,
    messages,
    readable: messages,
    suspect,
    bytes: messages.reduce((sum, { bytes }) => sum + bytes, 0),
    noted: false,
    doubted: false,
    apart: undefined,
    probes: 0,
    givenUp: false,
    skips: undefined,
    admission: undefined,
    stop: undefined,
  };
}

export function takenApart(bisection: Bisection, error = ''): TakenApart {
  return { bisection, isProbed: false, letters: [], buried: 0, savedAt: Number.NEGATIVE_INFINITY, error, failedAt: 0 };
}

/** Aborts with the given signal, or when the window is given up. */
export function stopSignal(open: InFlightWindow, signal: AbortSignal): AbortSignal {
  open.stop ??= new AbortController();
  return AbortSignal.any([signal, open.stop.signal]);
}
