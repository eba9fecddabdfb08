import { blocks, messages } from '../lib/messages.mjs';
import { warmUpShare } from '../lib/warm-up.mjs';

/** Messages/s until the last is acknowledged. `mode`: 'one', 'in flight' (`count` of them) or 'bulk' (`count` a call). */
export default async function append(subject, { mode, count, total, bytes }, context) {
  const session = await subject.open({ ...context, clear: true });
  try {
    if (!canAppend(session, mode)) return undefined;
    // In this session, see lib/warm-up.mjs.
    await prepare(session, { mode, count, total: warmUpShare(total, count), bytes })();
    const already = await session.left();
    const run = prepare(session, { mode, count, total, bytes });
    globalThis.gc?.();
    const began = performance.now();
    await run();
    const seconds = (performance.now() - began) / 1000;
    return {
      messages: total,
      seconds,
      rate: total / seconds,
      lost: already + total - (await session.left()),
      repeated: 0,
    };
  } finally {
    await session.close();
  }
}

function canAppend(session, mode) {
  if (mode === 'bulk') return session.appendMany !== undefined;
  if (mode === 'in flight') return session.append !== undefined;
  return session.append !== undefined || session.appendInOrder !== undefined;
}

/** The messages are there before the clock starts. */
function prepare(session, { mode, count, total, bytes }) {
  const all = messages(0, total, bytes);
  const parts = [...blocks(total, count, bytes)];
  if (mode === 'one') return () => inOrder(session, all);
  if (mode === 'in flight') return () => concurrently(session, all, count);
  return async () => {
    for (const part of parts) await session.appendMany(part);
  };
}

async function inOrder(session, all) {
  if (session.appendInOrder) return session.appendInOrder(all);
  for (const message of all) await session.append(message);
}

/** As soon as one is acknowledged, the next goes out. */
export async function concurrently(session, all, count) {
  if (session.appendConcurrently) return session.appendConcurrently(all, count);
  let next = 0;
  const line = async () => {
    while (next < all.length) await session.append(all[next++]);
  };
  await Promise.all(Array.from({ length: count }, line));
}
