import { isDeepStrictEqual } from 'node:util';
import { delay } from '../../internal/clock.js';
import type { Appender, ReadDocument } from './appender.js';
import { documentOf } from './change-message.js';
import type { ChangeEvent, ChangeStream } from './change-stream.js';
import type { ResolvedReading } from './collection-source.options.js';
import type { ChangeStart } from './position.js';

/** A wait for servers that do not hold an empty answer back; milliseconds. */
const PAUSE = 20;

/**
 * While nothing wanted comes, the position is stored once in a while: one that stays behind, in a quiet collection or with a
 * narrow filter, would one day be forgotten by the server.
 */
const STORE_IDLE = 10_000;

/**
 * Follows an open change stream until the signal aborts. A stream that ends, because its collection was dropped or renamed,
 * resolves with where the next one begins.
 */
export async function followChanges(
  changes: Pick<ChangeStream, 'read' | 'position'>,
  appender: Appender,
  { clock, pollInterval }: Pick<ResolvedReading, 'clock' | 'pollInterval'>,
): Promise<ChangeStart | undefined> {
  const { signal } = appender;
  let stored = { start: changes.position, at: clock.monotonic() };
  while (!signal.aborted) {
    const events = await changes.read();
    if (signal.aborted) return undefined;
    const start = changes.position;
    const idle = events.length === 0;
    const due = clock.monotonic() - stored.at >= STORE_IDLE && !isDeepStrictEqual(start, stored.start);
    if (!idle || due) {
      await appender.append(documentsOf(appender.namespace, events), { mode: 'changeStream', start });
      stored = { start, at: clock.monotonic() };
    }
    if (events.some((event) => event.operationType === 'invalidate')) return start;
    if (idle) await delay(clock, Math.min(PAUSE, pollInterval), signal);
  }
  return undefined;
}

function documentsOf(namespace: string, events: readonly ChangeEvent[]): readonly ReadDocument[] {
  return events.flatMap((event) => documentOf(namespace, event) ?? []);
}
