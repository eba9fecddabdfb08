import type { NewDeadLetter, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import type { BatchWindow } from './batch-window.js';
import type { Bisection } from './bisection.js';
import type { RowWindowFacts } from './engine.interface.js';
import type { Admission } from './rate-limit.js';
import type { SinkSkips } from './sink-skips.js';
import type { StageEffects } from './state-changes.js';

/**
 * Where a window in flight stands.
 *
 * ```text
 *                         ┌──────── set aside ◀──────┐
 *                         ▼             │            │ everything fails
 * claimed by ─▶ claiming ─▶ ready ─────▶ running ────┴─▶ finished ─▶ committing ─▶ leaving ─▶ gone
 * the loop          │                   │                  ▲
 *                   │                   └─▶ abandoned      │
 *                   └──── no handler: dropped, expired ────┘
 * ```
 *
 * - `claiming`: cut out of the buffer; its claim is being stored. Windows that a new holder of the lease takes over begin here, too.
 * - `ready`: waits for a worker.
 * - `running`: has a worker; in its handler, its sinks, or in a wait between two attempts.
 * - `setAside`: everything in it failed, and it waits for evidence.
 * - `finished`: waits for a commit.
 * - `committing`: in a commit point that is being written.
 * - `leaving`: committed; its messages are leaving the store.
 * - `abandoned`: left to the next holder of the lease, because this one is stopping.
 */
export const WindowState = {
  Claiming: 'claiming',
  Ready: 'ready',
  Running: 'running',
  SetAside: 'setAside',
  Finished: 'finished',
  Committing: 'committing',
  Leaving: 'leaving',
  Abandoned: 'abandoned',
} as const;
export type WindowState = (typeof WindowState)[keyof typeof WindowState];

/** A record of the store that holds one or several claimed windows: removing all of them at once costs least. */
export interface ClaimRecord {
  /** Windows in it that are not finished. */
  unfinished: number;
}

/** What a window of rows has in addition. */
export interface OfRows {
  /** Among the windows that the stage has fired. */
  readonly number: number;
  readonly name: string;
  /** Windows with the same lane are handled one after another. */
  readonly lane: string;
  readonly facts: RowWindowFacts;
  /** It only releases rows: there is nothing to handle. */
  readonly isSilent: boolean;
  /** It is through. @returns what its commit changes */
  readonly finish: () => StageEffects;
}

/** A window that is claimed and not committed; `InFlightWindows` alone changes its state and what depends on that. */
export interface InFlightWindow {
  state: WindowState;
  /** As it lies in the store; replaced when an attempt failed. */
  record: WindowRecord;
  readonly messages: readonly StoredMessage[];
  /** What the handler gets of them: all but those that can't be decoded, which are dead letters. */
  readable: readonly StoredMessage[];
  /** Sum of their sizes. */
  readonly bytes: number;
  /** Present if its messages are in rows, and not in the buffer any more. */
  ofRows: OfRows | undefined;
  /** It is for a stage that makes windows of rows of it: the handler gets those. */
  isIntake: boolean;
  /** In flight when a process was cut off. */
  readonly inherited: boolean;
  /** It may be what ended that process: inherited, and its handler, or what became of the answer, may have done so. */
  suspect: boolean;
  /** A suspect that runs, or waits to run, with no other window in flight. */
  isolated: boolean;
  /** Runs again because others succeeded after everything in it had failed. */
  retry: boolean;
  /** Waits in its worker until everything works again (`onAllFailed: 'block'`). */
  blocked: boolean;
  /** Started out of order: a successor can't tell by its place that its handler may have been running. */
  startedOutOfOrder: boolean;
  /** It failed as a probe: others make better ones. */
  failedAsProbe: boolean;
  /** While set aside, or probed after that: handlers that had begun when it failed. */
  failedAt: number;
  /** While set aside: each of its messages has failed alone; otherwise it failed once, as a probe. */
  failedWhole: boolean;
  /** What its handler got last, once it is finished, if the strategy wants to see it (`onCommit`); absent if it is committed without a handler. */
  handled: BatchWindow | undefined;
  /** What its commit is to change, of a stage; present once it is through. */
  effects: StageEffects | undefined;
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
  /** What its claim was stored in; undefined if the store does not say. */
  claimRecord: ClaimRecord | undefined;
  /** Finished after all other windows of its `claimRecord`. */
  completesRecord: boolean;
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
  deadLettered: number;
  /** Why the last message was given up; empty if none was. */
  lastGivenUp: string;
  /** Monotonic time of the last save. */
  savedAt: number;
  /** Nothing has come out since then. */
  isSaved: boolean;
  /** What the handler failed with last. */
  error: string;
  /** Runs of the handler that had begun when a message failed alone last: see `Evidence`. */
  failedAt: number;
}

export function inFlightWindow(
  record: WindowRecord,
  messages: readonly StoredMessage[],
  suspect = false,
  inherited = suspect,
): InFlightWindow {
  return {
    state: WindowState.Claiming,
    record,
    messages,
    readable: messages,
    inherited,
    suspect,
    bytes: messages.reduce((sum, { bytes }) => sum + bytes, 0),
    ofRows: undefined,
    isIntake: false,
    isolated: false,
    retry: false,
    blocked: false,
    startedOutOfOrder: false,
    failedAsProbe: false,
    failedAt: 0,
    failedWhole: false,
    handled: undefined,
    effects: undefined,
    apart: undefined,
    probes: 0,
    givenUp: false,
    skips: undefined,
    admission: undefined,
    claimRecord: undefined,
    completesRecord: false,
    stop: undefined,
  };
}

export function takenApart(bisection: Bisection, error = ''): TakenApart {
  return {
    bisection,
    isProbed: false,
    letters: [],
    deadLettered: 0,
    lastGivenUp: '',
    savedAt: Number.NEGATIVE_INFINITY,
    isSaved: true,
    error,
    failedAt: 0,
  };
}

/** Aborts with the given signal, or when the window is given up. */
export function stopSignal(open: InFlightWindow, signal: AbortSignal): AbortSignal {
  open.stop ??= new AbortController();
  return AbortSignal.any([signal, open.stop.signal]);
}
