import type { Clock } from '../common/clock.js';

/** The wall clock may jump: it is read again after this long; milliseconds. */
const LONGEST_WAIT = 60_000;

/** Schedules the next pass by the clock, if nothing else does before. */
export class PassTimer {
  private armed: { readonly due: number; readonly cancel: () => void } | undefined;

  constructor(
    private readonly clock: Clock,
    /** @param wasSetBack the wall clock shows an earlier time than when the timer was armed */
    private readonly fired: (wasSetBack: boolean) => void,
  ) {}

  /** @param ms `Infinity` for never */
  arm(ms: number): void {
    const { clock } = this;
    const wait = Math.min(ms, LONGEST_WAIT);
    const due = clock.monotonic() + wait;
    // About the same: not worth another timer in every pass.
    if (this.armed && Math.abs(this.armed.due - due) < 1 && ms !== Infinity) return;
    this.cancel();
    if (ms === Infinity) return;
    const now = clock.now();
    const cancel = clock.schedule(wait, () => {
      this.armed = undefined;
      this.fired(clock.now() < now);
    });
    this.armed = { due, cancel };
  }

  cancel(): void {
    this.armed?.cancel();
    this.armed = undefined;
  }
}
