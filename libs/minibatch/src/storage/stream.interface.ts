import type { GroupKey } from './consumer-key.interface.js';

/** A stream as it is stored. */
export interface StreamInfo {
  readonly name: string;
  readonly status: 'init' | 'open' | 'closed';
  readonly created: Date;
  readonly closed?: Date;
  readonly groups: readonly string[];
  /** True: consumers of the stream start no new windows. */
  readonly paused: boolean;
  /** Grows with each request to emit the tail now. */
  readonly flushes: number;
  /** Grows with each `clear`; absent if there was none. */
  readonly clearings?: number;
  /** What operators want done with open windows; absent if there is nothing. */
  readonly requests?: readonly WindowRequest[];
  /** Grows whenever consumers are asked for something (see `asksConsumers`); absent if they were not, or if the store does not count. */
  readonly asked?: number;
  /** How many partitions it has. Absent: one, and nobody has ever said how many. */
  readonly partitions?: number;
  /** Each time that it was given more partitions, the earliest first; absent if it never was. */
  readonly growths?: readonly Growth[];
}

/** A stream was given more partitions: a multiple of those it had. */
export interface Growth {
  /** How many it had before. */
  readonly from: number;
  /** From this time on, producers use the new ones. A little later than the growth itself, so that all of them know of it by then. */
  readonly at: Date;
}

/** More partitions for a stream. */
export interface StreamGrowth {
  readonly partitions: number;
  /** See `Growth`. */
  readonly at: Date;
}

/** What a new stream has from the beginning. */
export interface NewStream {
  /** @default one, and it may be said later */
  readonly partitions?: number;
}

/** What an operator wants done with an open window, by whichever process holds the lease. */
export interface WindowRequest {
  readonly group: string;
  /** Public id. */
  readonly window: string;
  /** `giveUp`: its messages become dead letters. `skip`: it is committed although a sink did not take its result. */
  readonly action: 'giveUp' | 'skip';
  /** `skip`: the name of the sink. Absent: every sink that fails. */
  readonly sink?: string;
}

/** What can be changed of a stream. */
export interface StreamUpdate {
  readonly status?: 'open' | 'closed';
  readonly paused?: boolean;
  /** Asks for the tail to be emitted now. */
  readonly flush?: true;
  /**
   * Messages that are in the buffer now are not wanted any more, but for redriven ones: from the moment this resolves reads give them
   * as `cleared`, and consumers commit them unhandled. It goes by what is there, never by a clock: a message whose append was
   * acknowledged before the call is cleared, one whose append begins after it has resolved never is.
   */
  readonly clear?: true;
  /** Added to the requests, once. */
  readonly request?: WindowRequest;
  /** The window is not open any more: nothing is wanted of it. */
  readonly answered?: WindowRequest;
  /**
   * Gives the stream more partitions; in these, all its groups are registered from the moment this resolves. Nothing happens if it has
   * as many already.
   */
  readonly grow?: StreamGrowth;
}

/** True if the change is something that running consumers have to carry out. */
export function asksConsumers({ paused, flush, clear, request, grow }: StreamUpdate): boolean {
  return paused !== undefined || flush === true || clear === true || request !== undefined || grow !== undefined;
}

export interface RegisterGroupOptions {
  /** `fetchByTime` will be called for the group: the store may keep an index. */
  readonly timeOrder?: boolean;
  /** The group whose place it takes. */
  readonly replaces?: string;
}

/** Which streams there are, their groups, and what operators ask of them. */
export interface StreamCatalog {
  /**
   * Creates the stream if it is not there, and opens it if its status is `init`. Does not open a closed one. What `made` says holds for a
   * stream that is created here; what is stored wins over it.
   */
  ensureStream(stream: string, made?: NewStream): Promise<StreamInfo>;
  /** The stream, or undefined. */
  describeStream(stream: string): Promise<StreamInfo | undefined>;
  /** Several at once, those that exist; all when no names are given. By name. */
  listStreams(streams?: readonly string[]): Promise<readonly StreamInfo[]>;
  /** Changes what is given. @throws UnknownStream; `InvalidPartitions` if it can't grow to that, and then nothing is changed */
  updateStream(stream: string, change: StreamUpdate): Promise<StreamInfo>;
  /**
   * Removes the stream with its messages, windows, consumers and checkpoints. Consumers that run lose their leases, and register again,
   * which makes a new stream.
   */
  dropStream(stream: string): Promise<void>;
  /**
   * Makes the group known in all partitions that the stream has, so that from the moment this resolves no message leaves the buffer
   * without it. Idempotent.
   *
   * With `replaces`, the other group's progress, open and kept windows, done marks and dead letters become this group's, and the other
   * one is gone. If a lease of this group was ever held, it keeps its own progress and windows, and only the letters join those it has:
   * a message that both gave up has two.
   */
  registerGroup(key: GroupKey, options?: RegisterGroupOptions): Promise<void>;
  /**
   * Forgets the group, its open windows and its progress; messages only it held back leave the buffer. What it has settled with `keep`
   * is kept, also if it waits for other groups and leaves later. Its kept windows stay until they are swept, but `readWindows` returns
   * them no more, not even when a group of that name is registered again. @throws UnknownGroup
   */
  removeGroup(stream: string, group: string): Promise<void>;
}
