import type { ChangeEvent } from './change-stream.js';
import { idText } from './dedupe-id.js';
import type { ChangeStart } from './position.js';

/**
 * The events from before a snapshot up to its end. What was inserted meanwhile comes by both ways and has one dedupe id. A document that
 * was deleted and inserted again meanwhile may have been read by the snapshot in its first life, so its second one has an id of its own.
 *
 * The position stays at the beginning until all of these events are appended: after a restart the deletes have to be seen again.
 */
export class SnapshotOverlap {
  private readonly deleted = new Set<string>();

  constructor(
    readonly start: ChangeStart,
    /** Time at which the snapshot was over, if the server tells. */
    private readonly end: unknown,
  ) {}

  /** Whether the snapshot may have read what the event inserts. Takes the events in their order. */
  mayHave(event: ChangeEvent): boolean {
    const id = idText(event.documentKey?._id);
    if (event.operationType === 'delete') this.deleted.add(id);
    return !this.deleted.has(id) && !this.isOver(event);
  }

  /** The event is later than the snapshot. */
  isOver({ clusterTime }: ChangeEvent): boolean {
    return isTimestamp(clusterTime) && isTimestamp(this.end) && clusterTime.compare(this.end) > 0;
  }
}

function isTimestamp(value: unknown): value is { compare(other: unknown): number } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'compare' in value &&
    '_bsontype' in value &&
    value._bsontype === 'Timestamp'
  );
}
