import { type EngineParts, type LeaseTerm, LeaseTermOver } from './lease-term.js';
import { isLeaseLost } from './lease-keeper.js';

/** What is chained to it runs in a microtask, as with `queueMicrotask`, which also makes an object for `async_hooks`. */
const SOON = Promise.resolve();

/**
 * Runs the passes of a consumer's loop, and the tasks that they start. Whatever ends, or comes from outside, schedules a pass; a pass
 * starts what can be started and returns. So the tasks overlap, and nothing polls.
 */
export class PassScheduler {
  private isScheduled = false;

  constructor(
    private readonly term: Pick<LeaseTerm, 'isOver'> & { readonly parts: Pick<EngineParts, 'activity'> },
    private readonly pass: () => void,
    /** Told what no part of the loop expects: it can't continue. */
    private readonly fail: (error: unknown) => void,
  ) {}

  /** A pass follows, soon and once, however often it is asked for. */
  schedule(): void {
    if (this.isScheduled || this.term.isOver) return;
    this.isScheduled = true;
    this.term.parts.activity.enter();
    void SOON.then(this.runPass);
  }

  /**
   * Starts a task; its end schedules a pass.
   *
   * @param ended called when it has ended, before the pass, with its result, or with nothing if it failed
   */
  startTask<R>(work: () => Promise<R>, ended?: (result: R | undefined) => void): void {
    this.term.parts.activity.enter();
    void this.run(work, ended);
  }

  private readonly runPass = (): void => {
    this.isScheduled = false;
    try {
      this.pass();
    } catch (error) {
      this.fail(error);
    } finally {
      this.term.parts.activity.leave();
    }
  };

  private async run<R>(work: () => Promise<R>, ended?: (result: R | undefined) => void): Promise<void> {
    try {
      let result: R | undefined;
      try {
        result = await work();
      } finally {
        ended?.(result);
      }
    } catch (error) {
      // What it had in hand is nowhere now but in the store: only a new start finds it again.
      if (!(error instanceof LeaseTermOver) && !isLeaseLost(error)) this.fail(error);
    } finally {
      this.schedule();
      this.term.parts.activity.leave();
    }
  }
}
