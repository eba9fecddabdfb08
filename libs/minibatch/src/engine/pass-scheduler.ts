import { type LeaseTerm, LeaseTermOver } from './lease-term.js';
import { isLeaseLost } from './lease-keeper.js';

/**
 * Runs the passes of a consumer's loop, and the tasks that they start. Whatever ends, or comes from outside, schedules a pass; a pass
 * starts what can be started and returns. So the tasks overlap, and nothing polls.
 */
export class PassScheduler {
  private isScheduled = false;

  constructor(
    private readonly term: LeaseTerm,
    private readonly pass: () => void,
    /** Told what no part of the loop expects: it can't continue. */
    private readonly fail: (error: unknown) => void,
  ) {}

  /** A pass follows, soon and once, however often it is asked for. */
  schedule(): void {
    if (this.isScheduled || this.term.isOver) return;
    this.isScheduled = true;
    this.term.parts.activity.enter();
    queueMicrotask(() => {
      this.isScheduled = false;
      try {
        this.pass();
      } catch (error) {
        this.fail(error);
      } finally {
        this.term.parts.activity.leave();
      }
    });
  }

  /** Starts a task; its end schedules a pass. */
  startTask(work: () => Promise<void>): void {
    this.term.parts.activity.enter();
    void this.run(work);
  }

  private async run(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      // What it had in hand is nowhere now but in the store: only a new start finds it again.
      if (!(error instanceof LeaseTermOver) && !isLeaseLost(error)) this.fail(error);
    } finally {
      this.schedule();
      this.term.parts.activity.leave();
    }
  }
}
