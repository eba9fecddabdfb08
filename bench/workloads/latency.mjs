import { messages } from '../lib/messages.mjs';
import { OpenLoop } from '../lib/open-loop.mjs';
import { Tally } from '../lib/tally.mjs';

const PATIENCE = 30_000;

/** Milliseconds from when a message was to be appended until its handler has it, windows of 1, at a rate that does not wait. */
export default async function latency(subject, { rate, seconds, warmUp, bytes }, context) {
  const loop = new OpenLoop({ rate, seconds, warmUp });
  const tally = new Tally(loop.total);
  const onWindow = (group, [{ n }]) => {
    loop.handled(n);
    tally.see(group, n);
  };
  const session = await subject.open({ ...context, clear: true, size: 1, groups: ['default'], onWindow });
  try {
    const all = messages(0, loop.total, bytes);
    if (!session.roundTrip) await session.start();
    globalThis.gc?.();
    const send = session.roundTrip ?? session.append;
    await loop.run((n) => send(all[n]));
    const sent = performance.now() - loop.began;
    await tally.wait(PATIENCE);
    const took = performance.now() - loop.began;
    const handled = loop.total - tally.missing;
    return {
      messages: loop.total,
      sendingSeconds: sent / 1000,
      rate: handled / (took / 1000),
      ...loop.result,
      ...tally.result,
    };
  } finally {
    await session.close();
  }
}
