import { fill } from '../lib/fill.mjs';
import { Tally } from '../lib/tally.mjs';

const PATIENCE = 120_000;

/** Messages/s from the start of the consumer until the last message of a backlog is handled and gone. */
export default async function drain(subject, { size, total, bytes, groups = ['default'] }, context) {
  const tally = new Tally(total, groups);
  const onWindow = (group, data) => tally.seeAll(group, data);
  const session = await subject.open({ ...context, clear: true, size, groups, onWindow });
  try {
    await fill(session, total, bytes);
    globalThis.gc?.();
    const began = performance.now();
    await session.start();
    if (await tally.wait(PATIENCE)) await session.settled(total * groups.length);
    const seconds = (performance.now() - began) / 1000;
    const figures = await session.figures?.();
    const left = await session.left();
    return { messages: total, seconds, rate: total / seconds, left, figures, ...tally.result };
  } finally {
    await session.close();
  }
}
