import {
  createdOf,
  dedupeIdOf,
  isDeduped,
  isIntact,
  isRedriven,
  isReplayed,
  type EncodedMessage,
} from '../encoded-message.js';
import { countKeyOf, forgetKeeper, tailOf } from './stream-records.js';
import {
  dedupeKey,
  Kind,
  messageKey,
  messageRange,
  placeKey,
  returnedKey,
  seqOf,
  timeKey,
  tombstoneKey,
} from './keys.js';
import { keepMessage } from './kept-messages.js';
import {
  decodeNumber,
  decodeReturned,
  encodeNumber,
  encodePosition,
  PRESENT,
  type Returned,
  type StreamRecord,
} from './records.js';
import { GroupOffsets } from './group-offsets.js';
import type { WriteView } from './view.js';

/** What is known of a message that is to leave without reading it. */
export interface LeavingMessage {
  readonly seq: number;
  readonly created: Date;
  readonly deduped: boolean;
  readonly redriven: boolean;
}

/**
 * Messages of one partition on their way out of the buffer, within one transaction; counters are kept here and written by
 * `finish`.
 */
export class MessageRemoval {
  private readonly groups: readonly GroupOffsets[];
  private readonly keepers: ReadonlySet<number>;
  /** Removed groups that have kept messages. */
  private readonly former: readonly GroupOffsets[];
  private readonly timeOrder: boolean;
  private removed = 0;
  private readonly changed = new Set<GroupOffsets>();

  constructor(
    private readonly view: WriteView,
    private readonly stream: StreamRecord,
    private readonly partition: number,
    private readonly now: number,
  ) {
    const { groups, keepers = [] } = stream;
    const offsets = (group: number, name: string) =>
      new GroupOffsets(view, name, { stream: stream.id, group, partition });
    this.groups = groups.map(({ id, name }) => offsets(id, name));
    this.former = keepers.map((id) => offsets(id, ''));
    this.keepers = new Set([...groups.filter(({ keeps }) => keeps).map(({ id }) => id), ...keepers]);
    this.timeOrder = tailOf(view, stream.id).timeOrder;
  }

  /**
   * The group needs the messages no more. Those leave that none of the `waiting` groups needs; a group that has been removed
   * since it was asked to wait for holds nothing back.
   *
   * @param keep the group wants what it commits to be kept
   */
  done(group: number, messages: Iterable<LeavingMessage>, waiting: ReadonlySet<string>, keep: boolean): void {
    const own = this.groups.find(({ place }) => place.group === group);
    const holding = this.groups.filter(({ place, name }) => place.group !== group && waiting.has(name));
    for (const message of messages) {
      if (holding.every((other) => other.isDone(message.seq))) this.remove(message, keep);
      else if (own !== undefined) this.mark(own, message.seq);
    }
    if (own !== undefined && this.changed.has(own)) this.advance(own);
  }

  /** Removes those of the partition's messages after `after` that every group has committed; undefined when it is through. */
  purge(after: number, limit: number): number | undefined {
    if (this.groups.length === 0) return undefined;
    const last = Math.min(...this.groups.map((group) => this.lastDone(group)));
    const range = messageRange(this.stream.id, this.partition, after, last);
    if (last <= after) return undefined;
    const seqs = [...this.view.keys(range, limit)].map(seqOf);
    for (const seq of seqs) {
      if (!this.groups.every((group) => group.isDone(seq))) continue;
      const value = this.view.get(messageKey(this.stream.id, this.partition, seq));
      if (value === undefined || !isIntact(value)) continue;
      this.remove({ seq, created: createdOf(value), deduped: isDeduped(value), redriven: isRedriven(value) }, false);
    }
    return seqs.length < limit ? undefined : seqs.at(-1);
  }

  /**
   * Removes those of the partition's first `limit` messages that are cleared or were created before the time; how many that were.
   * Numbers grow with time, but for clocks that differ: what hides behind newer ones goes when they do.
   */
  expire(before: number | undefined, limit: number): number {
    const { stream, partition } = this;
    for (const key of [...this.view.keys(messageRange(stream.id, partition, 0), limit)]) {
      const value = this.view.get(key);
      if (value === undefined || !isIntact(value) || isRedriven(value)) continue;
      const seq = seqOf(key);
      const created = createdOf(value);
      const isOld = before !== undefined && created.getTime() < before;
      if (!isOld && seq > (stream.clearedTo ?? 0)) continue;
      this.remove({ seq, created, deduped: isDeduped(value), redriven: false }, false);
    }
    return this.removed;
  }

  finish(): void {
    const { view, stream, partition } = this;
    if (this.removed > 0) {
      const key = countKeyOf(stream.id, partition);
      view.put(key, encodeNumber(Math.max(0, decodeNumber(view.get(key)) - this.removed)));
    }
    for (const group of this.changed) {
      view.put(placeKey(Kind.Position, group.place), encodePosition({ upTo: group.upTo, done: group.done }));
    }
    for (const group of this.former) {
      if (this.changed.has(group) && group.done === 0) forgetKeeper(view, stream.id, group.place.group);
    }
  }

  private remove({ seq, created, deduped, redriven }: LeavingMessage, keep: boolean): void {
    const { view, stream, partition } = this;
    const key = messageKey(stream.id, partition, seq);
    const done = [...this.groups, ...this.former].filter((group) => group.isDone(seq));
    const returned = redriven ? this.takeReturned(seq) : undefined;
    const kept = keep || done.some(({ place }) => this.keepers.has(place.group) && isFor(returned, place.group));
    const value = kept || deduped ? view.get(key) : undefined;
    // Gone already: a call that is repeated.
    if (!view.remove(key)) return;
    this.removed += 1;
    if (this.timeOrder) view.remove(timeKey(stream.id, partition, created.getTime(), seq));
    for (const group of done) {
      if (seq > group.upTo) view.remove(group.mark(seq));
      group.done -= 1;
      this.changed.add(group);
    }
    if (value === undefined) return;
    if (deduped) this.leaveTombstone(value);
    if (kept && !isReplayed(value)) keepMessage(view, { stream: stream.id, settled: this.now, partition, seq }, value);
  }

  private takeReturned(seq: number): Returned | undefined {
    const key = returnedKey(this.stream.id, seq);
    const returned = decodeReturned(this.view.get(key));
    this.view.remove(key);
    return returned;
  }

  /** The dedupe entry stays as a tombstone, which says when the message left. */
  private leaveTombstone(value: EncodedMessage): void {
    const dedupeId = dedupeIdOf(value);
    if (dedupeId === undefined) return;
    const key = dedupeKey(this.stream.id, dedupeId);
    this.view.put(tombstoneKey(this.stream.id, this.now, key), PRESENT);
  }

  private mark(own: GroupOffsets, seq: number): void {
    if (seq <= own.upTo || !this.view.has(messageKey(this.stream.id, this.partition, seq))) return;
    if (!this.view.add(own.mark(seq), PRESENT)) return;
    own.done += 1;
    this.changed.add(own);
  }

  /** Marks without a gap from the front are put into one number, so that reads do not pass over them one by one. */
  private advance(own: GroupOffsets): void {
    const covered: number[] = [];
    for (const key of this.view.keys(messageRange(this.stream.id, this.partition, own.upTo))) {
      const seq = seqOf(key);
      if (!this.view.has(own.mark(seq))) break;
      covered.push(seq);
    }
    for (const seq of covered) this.view.remove(own.mark(seq));
    own.upTo = covered.at(-1) ?? own.upTo;
  }

  private lastDone(group: GroupOffsets): number {
    const marks = { start: group.mark(0), end: group.mark(0xffff_ffff_ffff) };
    const last = this.view.lastKey(marks);
    return Math.max(group.upTo, last === undefined ? 0 : seqOf(last));
  }
}

/** False for the groups that had the message before it was redriven: they have not committed it a second time. */
function isFor(returned: Returned | undefined, group: number): boolean {
  return returned === undefined || group === returned.owner || group >= returned.later;
}
