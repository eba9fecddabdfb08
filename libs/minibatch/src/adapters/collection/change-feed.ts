import { isDeepStrictEqual } from 'node:util';
import { delay } from '../../common/clock.js';
import type { DocumentAppender, ReadDocument } from './document-appender.js';
import { documentOf } from './change-message.js';
import type { ChangeEvent, ChangeStream } from './change-stream.js';
import type { Reading } from './collection-source.options.js';
import type { ChangeStart } from './position.js';
import type { SnapshotOverlap } from './snapshot-overlap.js';

/** A wait for servers that do not hold an empty answer back; milliseconds. */
const PAUSE = 20;

/**
 * While nothing wanted comes, the position is stored once in a while: one that stays behind, in a quiet collection or with a
 * narrow filter, would one day be forgotten by the server.
 */
const STORE_IDLE = 10_000;

/**
 * Follows an open change stream until the signal aborts. A stream that ends, because its collection was dropped or renamed, or
 * because the overlap with the snapshot is over, resolves with where the next one begins.
 */
export async function followChanges(
  changes: Pick<ChangeStream, 'read' | 'position'>,
  appender: DocumentAppender,
  { clock, pollInterval }: Pick<Reading, 'clock' | 'pollInterval'>,
  overlap?: SnapshotOverlap,
): Promise<ChangeStart | undefined> {
  const { signal } = appender;
  let stored = { start: changes.position, at: clock.monotonic() };
  while (!signal.aborted) {
    const events = await changes.read();
    if (signal.aborted) return undefined;
    const start = changes.position;
    const idle = events.length === 0;
    const due = clock.monotonic() - stored.at >= STORE_IDLE && !isDeepStrictEqual(start, stored.start);
    const documents = documentsOf(appender.namespace, events, overlap);
    if (overlap) {
      // Nothing there: whatever came while the snapshot was read has been given.
      const over = idle || events.some((event) => event.operationType === 'invalidate' || overlap.isOver(event));
      const position = over ? { start } : { start: overlap.start, overlap: true as const };
      if (over || documents.length > 0) await appender.append(documents, { mode: 'changeStream', ...position });
      if (over) return start;
    } else if (!idle || due) {
      await appender.append(documents, { mode: 'changeStream', start });
      stored = { start, at: clock.monotonic() };
    }
    if (events.some((event) => event.operationType === 'invalidate')) return start;
    if (idle) await delay(clock, Math.min(PAUSE, pollInterval), signal);
  }
  return undefined;
}

function documentsOf(
  namespace: string,
  events: readonly ChangeEvent[],
  overlap: SnapshotOverlap | undefined,
): readonly ReadDocument[] {
  return events.flatMap((event) => documentOf(namespace, event, overlap?.mayHave(event) ?? false) ?? []);
}
