import { fill } from '../lib/fill.mjs';
import { ownMemory } from '../lib/own-memory.mjs';
import { Tally } from '../lib/tally.mjs';

const PATIENCE = 120_000;

/** Messages/s of many streams that have a little each, from the start of all their consumers. */
export default async function streams(subject, { count, each, size, bytes }, context) {
  const names = Array.from({ length: count }, (_, n) => `stream-${n}`);
  const total = count * each;
  const tally = new Tally(total);
  const onWindow = (group, data) => tally.seeAll(group, data);
  const session = await subject.open({ ...context, streams: names, clear: true, size, groups: ['default'], onWindow });
  try {
    for (const [n, stream] of names.entries()) await fill(session, each, bytes, { stream, from: n * each });
    globalThis.gc?.();
    const before = ownMemory();
    const cpu = process.cpuUsage();
    const began = performance.now();
    await session.start();
    if (await tally.wait(PATIENCE)) await session.settled(total);
    const seconds = (performance.now() - began) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    globalThis.gc?.();
    const memory = ownMemory() - before;
    return {
      messages: total,
      seconds,
      rate: total / seconds,
      cpuSeconds: (user + system) / 1e6,
      memory,
      figures: await session.figures?.(),
      ...tally.result,
    };
  } finally {
    await session.close();
  }
}
