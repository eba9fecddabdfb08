import { blocks } from '../lib/messages.mjs';
import { Tally } from '../lib/tally.mjs';
import { warmUp } from '../lib/warm-up.mjs';

const PATIENCE = 120_000;

/**
 * Messages/s from the first append until the last message is handled and gone; appends are of `size`, too. `together`: four of them
 * are in flight while the consumer runs; otherwise they come one after another and the consumer continues after the last.
 */
export default async function both(subject, { size, total, bytes, together }, context) {
  let tally;
  const handled = (messages) => (tally = new Tally(messages)).wait(PATIENCE);
  const onWindow = (group, data) => tally.seeAll(group, data);
  const session = await subject.open({ ...context, clear: true, size, groups: ['default'], onWindow });
  try {
    const few = await warmUp(session, { size, total, bytes }, handled);
    if (few === 0) throw new Error(`${subject.name} can't be paused`);
    if (!together) await session.pause();
    const parts = [...blocks(total, size, bytes)];
    globalThis.gc?.();
    const over = handled(total);
    const began = performance.now();
    if (together) {
      await Promise.all(Array.from({ length: 4 }, () => appendSome(session, parts)));
    } else {
      await appendSome(session, parts);
      await session.resume();
    }
    if (await over) await session.settled(few + total);
    const seconds = (performance.now() - began) / 1000;
    return { messages: total, seconds, rate: total / seconds, left: await session.left(), ...tally.result };
  } finally {
    await session.close();
  }
}

async function appendSome(session, parts) {
  for (let part = parts.shift(); part !== undefined; part = parts.shift()) await session.appendMany(part);
}
