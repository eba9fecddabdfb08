import { fill } from './fill.mjs';

/** Of what is timed; windows of 1 are at their speed after some thousands. */
const SHARE = 2;

/**
 * The first messages go through the session that is timed afterwards, and do not count: a long-lived process is what runs in production.
 * It has to be this session. V8 throws optimised code away with the objects it was optimised for, so one before it, though in the same
 * process, warms little up: windows of 1 took half as long again after it.
 *
 * @returns how many were handled; 0 if the subject can't be paused (Python compiles nothing)
 */
export async function warmUp(session, { size, total, bytes, groups = 1 }, handled) {
  if (!session.pause) return 0;
  const few = warmUpShare(total, size);
  await fill(session, few, bytes);
  const over = handled(few);
  await session.start();
  await over;
  await session.settled(few * groups);
  return few;
}

/** Whole windows. */
export const warmUpShare = (total, size) => Math.max(1, Math.floor(total / SHARE / size)) * size;
