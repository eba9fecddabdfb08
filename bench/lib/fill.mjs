import { blocks } from './messages.mjs';

/** Messages 0 to `total` into a session's stream, before the clock starts. */
export async function fill(session, total, bytes, { stream, from = 0 } = {}) {
  const put = session.fill ?? session.appendMany;
  for (const block of blocks(total, 1000, bytes, from)) await put(block, stream);
}
