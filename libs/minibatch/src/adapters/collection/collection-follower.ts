import type { mongo } from 'mongoose';
import { invalidOption } from '../../common/checks.js';
import { followChanges } from './change-feed.js';
import { ChangeStream } from './change-stream.js';
import type { Reading } from './collection-source.options.js';
import { CursorFeed } from './cursor-feed.js';
import type { DocumentAppender } from './document-appender.js';
import { startAfterLoss, type StartingPoint, startingPointOf, timeOfToken } from './lost-position.js';
import { openChanges } from './open-changes.js';
import type { SnapshotPosition } from './position.js';
import { serverFacts } from './server-facts.js';
import { readSnapshot } from './snapshot.js';
import { SnapshotOverlap } from './snapshot-overlap.js';

/** Follows one collection from a stored position: by a change stream where the server has one, otherwise by a cursor. */
export class CollectionFollower {
  constructor(
    private readonly collection: mongo.Collection,
    private readonly reading: Reading,
    private readonly appender: DocumentAppender,
  ) {}

  /** Until the signal aborts. @param stored the position that was stored last */
  async follow(stored: unknown): Promise<void> {
    const { collection, reading } = this;
    const start = startingPointOf(reading, collection.namespace, stored);
    if (reading.mode === 'cursor') await this.followCursor(start);
    else await this.followChanges(start);
  }

  private async followCursor(start: StartingPoint): Promise<void> {
    const { collection, reading, appender } = this;
    const { position, snapshot } = start;
    if (position === undefined) {
      await new CursorFeed(collection, { ...reading, snapshot }, appender).run(undefined);
    } else if (position.mode === 'cursor' && position.field === reading.field) {
      await new CursorFeed(collection, reading, appender).run(position);
    } else {
      const field = position.mode === 'cursor' ? `field '${position.field}'` : 'change stream';
      const why = `it is one of the ${field}, and now a cursor on '${reading.field}' is used`;
      await this.followCursor(startAfterLoss(reading, collection.namespace, why));
    }
  }

  private async followChanges(start: StartingPoint): Promise<void> {
    const { collection, reading, appender } = this;
    const { position } = start;
    const from = position && position.mode !== 'cursor' ? position.start : undefined;
    const opening = await openChanges(collection, reading, from, appender.signal);
    if ('unsupported' in opening) {
      this.checkCursorSuffices();
      await this.followCursor(start);
    } else if ('lost' in opening) {
      const why = 'the server has forgotten what came after it; a larger oplog remembers more';
      const after = startAfterLoss(reading, collection.namespace, why, {
        cause: opening.lost,
        since: timeOfToken(from),
      });
      await this.followChanges(after);
    } else if (position?.mode === 'cursor' && position.field !== '_id') {
      await opening.changes.close();
      const why = `it is one of the field '${position.field}', and now a change stream is used`;
      await this.followChanges(startAfterLoss(reading, collection.namespace, why));
    } else {
      await this.snapshotThenTail(start, opening.changes);
    }
  }

  private checkCursorSuffices(): void {
    const { where, mode, operations } = this.reading;
    const because = 'the server has no change streams: it is not a replica set';
    if (mode === 'changeStream') throw invalidOption(where, 'mode', mode, `'auto' or 'cursor', for ${because}`);
    if (operations.some((operation) => operation !== 'insert')) {
      const allowed = `['insert'], for ${because}; field: 'updatedAt' sees changed documents too`;
      throw invalidOption(where, 'operations', operations, allowed);
    }
  }

  private async snapshotThenTail(start: StartingPoint, opened: ChangeStream): Promise<void> {
    const { collection, reading, appender } = this;
    const { signal } = appender;
    let changes = opened;
    const { position } = start;
    const snapshot = snapshotOf(start, changes);
    const overlapStart = position?.mode === 'changeStream' && position.overlap ? position.start : snapshot?.start;
    try {
      if (snapshot) {
        // It may take longer than a server keeps an idle change stream.
        await changes.close();
        if (!(await readSnapshot(collection, reading, snapshot, appender))) return;
        await appender.append([], { mode: 'changeStream', start: snapshot.start, overlap: true });
      } else if (position === undefined) {
        // Otherwise what arrives before the first message is stored would be missed after a crash.
        await appender.append([], { mode: 'changeStream', start: changes.position });
      }
      if (overlapStart) {
        await changes.close();
        const { exactTime } = await serverFacts(collection, signal);
        const overlap = new SnapshotOverlap(overlapStart, exactTime);
        changes = await ChangeStream.open(collection, reading, overlapStart, signal, true);
        const next = await followChanges(changes, appender, reading, overlap);
        if (next === undefined) return;
        await changes.close();
        changes = await ChangeStream.open(collection, reading, next, signal);
      }
      for (;;) {
        const next = await followChanges(changes, appender, reading);
        if (next === undefined) return;
        await changes.close();
        changes = await ChangeStream.open(collection, reading, next, signal);
      }
    } finally {
      await changes.close();
    }
  }
}

/** What has to be read before the change stream, if anything. */
function snapshotOf({ position, snapshot }: StartingPoint, changes: ChangeStream): SnapshotPosition | undefined {
  if (position?.mode === 'snapshot') return position;
  const start = changes.position;
  if (position?.mode === 'cursor') {
    // The server has become a replica set: the rest of the collection, then its changes from now on.
    return { mode: 'snapshot', start, ...(position.from === undefined ? {} : { from: position.from }) };
  }
  return position === undefined && snapshot ? { mode: 'snapshot', start } : undefined;
}
