import { fill } from '../lib/fill.mjs';
import { Tally } from '../lib/tally.mjs';
import { warmUp } from '../lib/warm-up.mjs';

const PATIENCE = 120_000;

/** Messages/s from when the consumer may take them until the last message of a backlog is handled and gone. */
export default async function drain(subject, { size, total, bytes, groups = ['default'] }, context) {
  let tally;
  const handled = (messages) => (tally = new Tally(messages, groups)).wait(PATIENCE);
  const onWindow = (group, data) => tally.seeAll(group, data);
  const session = await subject.open({ ...context, clear: true, size, groups, onWindow });
  try {
    const few = await warmUp(session, { size, total, bytes, groups: groups.length }, handled);
    if (few > 0) await session.pause();
    const warming = few > 0 && (await session.figures?.());
    await fill(session, total, bytes);
    globalThis.gc?.();
    const filled = few > 0 && (await session.figures?.());
    const over = handled(total);
    const began = performance.now();
    if (few > 0) await session.resume();
    else await session.start();
    if (await over) await session.settled((few + total) * groups.length);
    const seconds = (performance.now() - began) / 1000;
    const figures = since(await session.figures?.(), filled, warming);
    const left = await session.left();
    return {
      messages: total,
      seconds,
      rate: total / seconds,
      left,
      figures: figures && { ...figures, messages: few + total },
      ...tally.result,
    };
  } finally {
    await session.close();
  }
}

/** All that was counted since the consumer was started, but for the filling. */
function since(now, filled, warming) {
  if (!now || !filled) return now;
  return Object.fromEntries(Object.keys(now).map((name) => [name, now[name] - filled[name] + warming[name]]));
}
