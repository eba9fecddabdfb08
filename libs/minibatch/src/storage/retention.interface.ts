import type { Block, FetchLimits, MessageId, TimeRange } from './message.interface.js';

/** Of kept messages those that match all that is given. Half-open, as `TimeRange`: `from` ≤ id < `to`. */
export interface KeptRange {
  readonly from?: MessageId;
  readonly to?: MessageId;
  readonly created?: TimeRange;
}

/** What was settled before these times is removed; what has no time stays. */
export interface SweepTimes {
  readonly tombstones?: Date;
  /** Of kept messages and windows. */
  readonly kept?: Date;
}

/** How many of each were removed. */
export interface SweepResult {
  readonly tombstones: number;
  readonly messages: number;
  readonly windows: number;
}

/** What stays after its commit, and what is removed for its age. */
export interface RetentionStore {
  /**
   * Kept messages in the order of their ids, after the given one. What is in their place and is no message is passed over. The limits
   * are those of `fetch`.
   */
  readKept?(stream: string, after: MessageId | undefined, limits: FetchLimits): Promise<Block>;
  /**
   * Puts copies of kept messages into the buffer, in the order of their ids, behind what is there and for this group alone: for the other
   * groups of the stream they count as committed. A group that is registered while they wait gets them, too. The kept messages stay.
   * Resolves with how many copies it made.
   *
   * A message is passed over while a copy of it waits for the group, whichever group the copy was made for, and also if the copy died
   * and was redriven. So a call that is repeated after a crash resumes where the first one ended. A copy is `redriven`, has no dedupe id,
   * and is never kept itself. Does nothing for a group that is not registered. What is kept after the call began may be left out.
   */
  replay?(stream: string, group: string, range: KeptRange): Promise<number>;
  /** Removes tombstones and kept messages and windows that were settled before the time; resolves with how many of each. */
  sweep(stream: string, before: SweepTimes): Promise<SweepResult>;
  /**
   * Removes messages of a stream that has no groups: those that are `cleared`, and those created before the time, if one is given.
   * Deduped ones become tombstones, redriven ones stay. Resolves with how many. Does nothing, and ends, as soon as the stream has a
   * group: from then on its messages are the group's.
   */
  expire(stream: string, before?: Date): Promise<number>;
}
