import { isA } from '../errors/error-text.js';

/** Where log lines go; Nest's `Logger` is one. */
export interface Log {
  log(message: string): void;
  warn(message: string): void;
  error(message: string, stack?: string): void;
}

/**
 * A log that may be called anywhere. One of the application may throw, or return a promise that rejects: that would end a consumer, or
 * the process, for the sake of a line. The line goes to standard error then.
 */
export function steadyLog(given: Log): Log {
  const write = (message: string, pass: () => unknown) => {
    const failed = () => void process.stderr.write(`${message}\n`);
    try {
      const answer = pass();
      if (isA(answer, Promise)) answer.catch(failed);
    } catch {
      failed();
    }
  };
  return {
    log: (message) => write(message, () => given.log(message)),
    warn: (message) => write(message, () => given.warn(message)),
    error: (message, ...stack) => write(message, () => given.error(message, ...stack)),
  };
}
