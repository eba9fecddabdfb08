/** What becomes of messages that are late, after the options have been checked. */
export interface LateRules {
  /** How long a closed window takes more, in milliseconds. */
  readonly lateness: number;
  /** Whether what comes later still gets windows of its own. */
  readonly lateWindows: boolean;
}

export interface HoppingRules extends LateRules {
  /** Windows without messages: all of a key that has had one, for ever; one after the last that has some; none. */
  readonly empty: boolean | 'once';
}

export interface SessionRules extends LateRules {
  /** Longest distance of a message from the next, in milliseconds. */
  readonly gap: number;
  /** Longest duration, in milliseconds; Infinity: none. */
  readonly longest: number;
  /** Whether the first message of a session is given at once, and the rest at its end. */
  readonly leading: boolean;
}

export interface CountRules {
  /** Messages of a window. */
  readonly size: number;
  /** A window after every so many messages; `size`: each message is in one. */
  readonly every: number;
  /** Whether windows with fewer messages are given while a key has not had `size`. */
  readonly partial: boolean;
  /** How long a message waits for its window to become full, in milliseconds; Infinity: for ever. */
  readonly longest: number;
}
