import { fill } from '../lib/fill.mjs';
import { Tally } from '../lib/tally.mjs';

/**
 * Seconds from the start of the process until its first window is handled; the messages are there already. The process is a fresh one,
 * and what `fill` put there another one has.
 */
export default async function startup(subject, { phase, size, bytes }, context) {
  const tally = new Tally(size);
  const onWindow = (group, data) => tally.seeAll(group, data);
  const open = performance.now();
  const session = await subject.open({ ...context, clear: phase === 'fill', size, groups: ['default'], onWindow });
  try {
    if (phase === 'fill') {
      await fill(session, size, bytes);
      return { messages: size, lost: 0, repeated: 0 };
    }
    await session.start();
    await tally.wait(60_000);
    const now = performance.now();
    return { messages: size, seconds: now / 1000, opening: (now - open) / 1000, ...tally.result };
  } finally {
    await session.close();
  }
}
