import type { Log } from './common/log.js';
import type { Clock } from './common/clock.js';

/** What ends a process, and Nest listens to. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
/**
 * What comes sooner is the same request once more: the terminal sends Ctrl-C to all processes of its group, and npm forwards it as well.
 * Milliseconds.
 */
const SAME = 1_000;

/**
 * Hears a second signal while the application shuts down: its sender does not want to wait. Nest ignores it. The drain ends then, and
 * everything else goes its way, the application's own hooks and listeners too.
 */
export class Impatience {
  private readonly hurry = new AbortController();
  private heard: readonly NodeJS.Signals[] = [];
  private since = 0;

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** Aborts with the second signal. */
  get signal(): AbortSignal {
    return this.hurry.signal;
  }

  /** The shutdown has begun. */
  listen(): void {
    this.forget();
    this.since = this.clock.monotonic();
    // Without a listener the signal ends the process; ours would prevent that.
    this.heard = SIGNALS.filter((name) => process.listenerCount(name) > 0);
    for (const name of this.heard) process.on(name, this.listener);
  }

  forget(): void {
    for (const name of this.heard) process.off(name, this.listener);
    this.heard = [];
  }

  private readonly listener = (name: NodeJS.Signals): void => {
    if (this.hurry.signal.aborted || this.clock.monotonic() - this.since < SAME) return;
    this.log.warn(
      `${name} while shutting down: no longer waiting for running handlers; their windows will be redelivered`,
    );
    this.hurry.abort();
  };
}
