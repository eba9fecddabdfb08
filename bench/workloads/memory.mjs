import { fill } from '../lib/fill.mjs';
import { ownMemory } from '../lib/own-memory.mjs';
import { Tally } from '../lib/tally.mjs';

/** MB of the process's own, while and after it drains a backlog; what the process had before its consumer started is not counted. */
export default async function memory(subject, { size, total, bytes }, context) {
  const tally = new Tally(total);
  let [most, windows] = [0, 0];
  const onWindow = (group, data) => {
    tally.seeAll(group, data);
    if (windows++ % 10 === 0) most = Math.max(most, ownMemory());
  };
  const session = await subject.open({ ...context, clear: true, size, groups: ['default'], onWindow });
  try {
    await fill(session, total, bytes);
    globalThis.gc?.();
    const before = ownMemory();
    await session.start();
    if (await tally.wait(120_000)) await session.settled(total);
    globalThis.gc?.();
    const after = ownMemory();
    return { messages: total, before, most: Math.max(0, most - before), after: after - before, ...tally.result };
  } finally {
    await session.close();
  }
}
