import type { ConsumerKey } from '../stream-store.interface.js';
import { Kind, type Place, placeKey, placeSeqKey } from './keys.js';
import { decodePosition, type Position, type StreamRecord } from './records.js';
import type { ReadView } from './view.js';

/** What one group has committed of a partition. */
export class GroupOffsets {
  readonly place: Place;
  upTo: number;
  done: number;

  constructor(
    private readonly view: ReadView,
    readonly name: string,
    place: Place,
  ) {
    this.place = place;
    const position: Position = decodePosition(view.get(placeKey(Kind.Position, place)));
    this.upTo = position.upTo;
    this.done = position.done;
  }

  isDone(seq: number): boolean {
    return seq <= this.upTo || (this.done > 0 && this.view.has(this.mark(seq)));
  }

  mark(seq: number): Buffer {
    return placeSeqKey(Kind.Done, this.place, seq);
  }
}

/** How a partition's messages look to one group. Where the group is alone, what it has committed is not there any more. */
export class UncommittedFilter {
  /** Nothing up to here is to be read. */
  readonly upTo: number;
  private readonly own: GroupOffsets | undefined;

  constructor(view: ReadView, stream: StreamRecord, { group, partition }: ConsumerKey) {
    const { groups } = stream;
    const own = groups.length > 1 ? groups.find(({ name }) => name === group) : undefined;
    this.own = own && new GroupOffsets(view, own.name, { stream: stream.id, group: own.id, partition });
    this.upTo = this.own?.upTo ?? 0;
  }

  isDone(seq: number): boolean {
    return this.own?.isDone(seq) ?? false;
  }
}
