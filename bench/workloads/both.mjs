import { blocks } from '../lib/messages.mjs';
import { Tally } from '../lib/tally.mjs';

const PATIENCE = 120_000;

/**
 * Messages/s from the first append until the last message is handled and gone; appends are of `size`, too. `together`: four of them
 * are under way while the consumer runs; else they come one after another and the consumer starts after the last.
 */
export default async function both(subject, { size, total, bytes, together }, context) {
  const tally = new Tally(total);
  const onWindow = (group, data) => tally.seeAll(group, data);
  const session = await subject.open({ ...context, clear: true, size, groups: ['default'], onWindow });
  try {
    const parts = [...blocks(total, size, bytes)];
    globalThis.gc?.();
    const began = performance.now();
    if (together) {
      const consuming = session.start();
      await Promise.all(Array.from({ length: 4 }, () => appendSome(session, parts)));
      await consuming;
    } else {
      await appendSome(session, parts);
      await session.start();
    }
    if (await tally.wait(PATIENCE)) await session.settled(total);
    const seconds = (performance.now() - began) / 1000;
    return { messages: total, seconds, rate: total / seconds, left: await session.left(), ...tally.result };
  } finally {
    await session.close();
  }
}

async function appendSome(session, parts) {
  for (let part = parts.shift(); part !== undefined; part = parts.shift()) await session.appendMany(part);
}
