import type { Clock } from './clock.js';

/** What the wall clock gains on the monotonic one in less than this is no jump: both are a little wrong. Milliseconds. */
const NO_JUMP = 1_000;
/** Jumps that are told apart. */
const MOST_JUMPS = 32;

/**
 * Tells what is older than an age, for those who remove it. Times that are stored come from the wall clock. When that is set forward,
 * all that is stored looks older than it is; so a step forward counts only when as much time has passed since then as the age in
 * question. Whatever the clock does, nothing goes before its age by the monotonic clock, counted from when this process began; it may
 * stay for up to twice its age.
 */
export class Ages {
  private wall: number;
  private monotonic: number;
  private jumps: { readonly at: number; readonly size: number }[] = [];

  constructor(private readonly clock: Clock) {
    this.wall = clock.now();
    this.monotonic = clock.monotonic();
  }

  /** Milliseconds since the epoch: what bears an earlier time is older than `age` milliseconds. */
  limit(age: number): number {
    const { wall, monotonic } = this;
    this.wall = this.clock.now();
    this.monotonic = this.clock.monotonic();
    const size = this.wall - wall - (this.monotonic - monotonic);
    if (Math.abs(size) >= NO_JUMP) this.note(size);
    let ahead = 0;
    for (const jump of this.jumps) if (this.monotonic - jump.at < age) ahead += jump.size;
    return this.wall - age - Math.max(0, ahead);
  }

  private note(size: number): void {
    this.jumps.push({ at: this.monotonic, size });
    const [first, second] = this.jumps;
    if (this.jumps.length <= MOST_JUMPS || !first || !second) return;
    this.jumps.splice(0, 2, { at: second.at, size: first.size + second.size });
  }
}
