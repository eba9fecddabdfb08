import { BACKGROUND_CLOCK } from '../../common/clock.js';
import type { MessageId } from '../stream-store.interface.js';

/** Messages that are remembered: a few blocks for each busy stream. */
const MOST = 50_000;

/**
 * Remembers which groups of this process have committed a message that is still in the buffer.
 *
 * Groups that go through a stream together read a message before any of them has marked it. The group that commits it last finds here that
 * it may leave, without a mark and without a read. What is not known here is read from the database, so forgetting only costs time.
 *
 * Only for groups that do not keep their messages, and only after their commit point, which is durable.
 */
export class GroupCommits {
  private readonly commits = new Map<MessageId, readonly string[]>();
  private readonly holds = new Set<HeldMessages>();

  constructor(private readonly most = MOST) {}

  add(ids: readonly MessageId[], group: string): void {
    for (const id of ids) {
      const groups = this.commits.get(id);
      if (groups?.includes(group)) continue;
      this.commits.set(id, groups ? [...groups, group] : [group]);
    }
    // In the order of their first commits: the oldest are forgotten.
    for (const id of this.commits.keys()) {
      if (this.commits.size <= this.most) return;
      this.commits.delete(id);
    }
  }

  /** True if there are groups and all of them are known to have committed the message. */
  covers(id: MessageId, groups: readonly string[]): boolean {
    const known = this.commits.get(id);
    return known !== undefined && groups.length > 0 && groups.every((group) => known.includes(group));
  }

  /** True if it does not matter which messages leave. */
  get isEmpty(): boolean {
    return this.commits.size === 0 && this.holds.size === 0;
  }

  /** The messages are no longer in the buffer. */
  left(ids: readonly MessageId[]): void {
    for (const id of ids) this.commits.delete(id);
    for (const hold of this.holds) hold.left(ids);
  }

  /** Watches which of these messages leave, until it is released. */
  hold(ids: readonly MessageId[]): Hold {
    const held = new HeldMessages(ids, () => this.holds.delete(held));
    this.holds.add(held);
    return held;
  }
}

/** Messages whose removal somebody waits for. */
export interface Hold {
  /** All have left. */
  readonly isEmpty: boolean;
  /** True as long as the message has not left. */
  has(id: MessageId): boolean;
  /** Resolves when all have left, after the timeout, or when the signal aborts. */
  untilLeft(timeout: number, signal: AbortSignal): Promise<void>;
  release(): void;
}

class HeldMessages implements Hold {
  private readonly rest: Set<MessageId>;
  private end: (() => void) | undefined;

  constructor(
    ids: readonly MessageId[],
    readonly release: () => void,
  ) {
    this.rest = new Set(ids);
  }

  get isEmpty(): boolean {
    return this.rest.size === 0;
  }

  has(id: MessageId): boolean {
    return this.rest.has(id);
  }

  left(ids: readonly MessageId[]): void {
    for (const id of ids) this.rest.delete(id);
    if (this.isEmpty) this.end?.();
  }

  async untilLeft(timeout: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.isEmpty) return;
    await new Promise<void>((resolve) => {
      const cancel = BACKGROUND_CLOCK.schedule(timeout, resolve);
      const end = () => {
        cancel();
        resolve();
      };
      this.end = end;
      signal.addEventListener('abort', end, { once: true });
    });
    if (this.end) signal.removeEventListener('abort', this.end);
  }
}
