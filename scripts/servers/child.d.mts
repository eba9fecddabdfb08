export interface StartedChild {
  readonly pid: number;
  /** The line that said that it is ready. */
  readonly match: RegExpExecArray;
  /** Resolves when the program has ended. */
  readonly exited: Promise<void>;
  kill(signal: NodeJS.Signals): boolean;
}

/** Starts a server program and waits until a line of its output matches `ready`. */
export function startChild(
  command: string,
  args: readonly string[],
  options: {
    readonly ready: RegExp;
    /** A folder to remove if this process dies. */
    readonly temporary?: string;
  },
): Promise<StartedChild>;
