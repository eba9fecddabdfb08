import { BACKGROUND_CLOCK } from '../../common/clock.js';
import type { MessageId } from '../stream-store.interface.js';

/** Messages that are remembered; a few blocks of each of the streams that are busy at a time. */
const MOST = 50_000;

/**
 * Which groups of this process have committed a message that is still in the buffer. Groups that go through a stream side by side
 * read a message before any of them has marked it. Whoever commits it last then knows from here that it may leave, without a mark
 * and without a look. What is not known here is looked up: forgetting costs nothing but time.
 *
 * Only groups that do not keep their messages belong in here, and only what they have committed: the commit point is durable.
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
    // In the order of their first commits: the oldest go.
    for (const id of this.commits.keys()) {
      if (this.commits.size <= this.most) return;
      this.commits.delete(id);
    }
  }

  /** True if all of the groups, of which there is at least one, are known to have committed it. */
  covers(id: MessageId, groups: readonly string[]): boolean {
    const known = this.commits.get(id);
    return known !== undefined && groups.length > 0 && groups.every((group) => known.includes(group));
  }

  /** Nobody needs to be told what leaves. */
  get isEmpty(): boolean {
    return this.commits.size === 0 && this.holds.size === 0;
  }

  /** They are not in the buffer any more. */
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

/** Messages that somebody waits for to leave. */
export interface Hold {
  /** All have left. */
  readonly isEmpty: boolean;
  /** True as long as the message has not left. */
  has(id: MessageId): boolean;
  /** Resolves when all have left or the time is over. */
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
