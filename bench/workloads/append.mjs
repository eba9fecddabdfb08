import { blocks, messages } from '../lib/messages.mjs';

/** Messages/s until the last is acknowledged. `mode`: 'one', 'under way' (`count` of them) or 'bulk' (`count` a call). */
export default async function append(subject, { mode, count, total, bytes }, context) {
  const session = await subject.open({ ...context, clear: true });
  try {
    if (!(await warmUp(session, mode, bytes))) return undefined;
    const already = await session.left();
    const all = messages(0, total, bytes);
    const parts = [...blocks(total, count, bytes)];
    const began = performance.now();
    if (mode === 'one') await inOrder(session, all);
    else if (mode === 'bulk') for (const part of parts) await session.appendMany(part);
    else await underWay(session, all, count);
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

/** False if it can't do that. */
async function warmUp(session, mode, bytes) {
  const few = messages(0, 50, bytes);
  if (mode === 'bulk' ? !session.appendMany : !session.append && !session.appendInOrder) return false;
  if (mode === 'under way' && !session.append) return false;
  if (mode === 'bulk') await session.appendMany(few);
  else await inOrder(session, few);
  return true;
}

async function inOrder(session, all) {
  if (session.appendInOrder) return session.appendInOrder(all);
  for (const message of all) await session.append(message);
}

/** As soon as one is acknowledged, the next goes out. */
export async function underWay(session, all, count) {
  if (session.appendConcurrently) return session.appendConcurrently(all, count);
  let next = 0;
  const line = async () => {
    while (next < all.length) await session.append(all[next++]);
  };
  await Promise.all(Array.from({ length: count }, line));
}
