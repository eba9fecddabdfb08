/** What is too old is looked for after this share of its age: so much longer than its age it may stay. */
const SHARE = 1 / 24;
const SHORTEST = 1_000;
const LONGEST = 3_600_000;

/** Milliseconds between two looks for what is older than `age` milliseconds; an hour at the most. */
export function sweepPause(age: number): number {
  return Math.min(Math.max(age * SHARE, SHORTEST), LONGEST);
}
