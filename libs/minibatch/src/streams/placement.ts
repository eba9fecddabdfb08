import type { Clock } from '../common/clock.js';
import type { Mutable } from '../common/mutable.js';
import { partitionOfKey } from '../storage/partitions.js';
import type { NewMessage } from '../storage/stream-store.interface.js';

/** Where messages of one stream go in one write. */
interface Target {
  readonly partitions: number;
  /** For messages without a key: with the next write, it is another one. */
  readonly unkeyed: number;
}

/** Decides which partition messages go to, as late as can be: when their write is sent. */
export class Placement {
  /** The last partition that messages without a key went to, by stream. */
  private readonly turns = new Map<string, number>();

  constructor(
    private readonly clock: Clock,
    /** How many partitions the stream has for what is sent at this time. */
    private readonly partitions: (stream: string, time: number) => number,
  ) {}

  /** Messages of one write, which may be on several streams. Those that are tried again may be placed anew. */
  place(messages: readonly Mutable<NewMessage>[]): void {
    const now = this.clock.now();
    const targets = new Map<string, Target>();
    for (const message of messages) {
      const { stream, key } = message;
      let target = targets.get(stream);
      if (!target) targets.set(stream, (target = this.target(stream, now)));
      if (target.partitions === 1) delete message.partition;
      else message.partition = key === undefined ? target.unkeyed : partitionOfKey(key, target.partitions);
    }
  }

  private target(stream: string, now: number): Target {
    const partitions = this.partitions(stream, now);
    if (partitions === 1) return { partitions, unkeyed: 0 };
    // Many short-lived processes would all begin with the first one.
    const last = this.turns.get(stream) ?? Math.floor(Math.random() * partitions);
    const unkeyed = (last + 1) % partitions;
    this.turns.set(stream, unkeyed);
    return { partitions, unkeyed };
  }
}
