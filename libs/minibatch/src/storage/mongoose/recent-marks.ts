import type { MessageId } from '../stream-store.interface.js';

/** Messages that are remembered; a few blocks of each of the streams that are busy at a time. */
const MOST = 50_000;

/**
 * The marks that groups of this process have set lately, and the server has acknowledged. Groups that go through a stream side by side
 * read a message before any of them has marked it; whoever settles it last then knows from here that it may go, without a mark of its
 * own and without a look. What is not known here is looked up: forgetting costs nothing but time.
 */
export class RecentMarks {
  private readonly marks = new Map<MessageId, readonly string[]>();

  constructor(private readonly most = MOST) {}

  add(ids: readonly MessageId[], group: string): void {
    for (const id of ids) {
      const groups = this.marks.get(id);
      if (groups?.includes(group)) continue;
      this.marks.set(id, groups ? [...groups, group] : [group]);
    }
    // In the order of their first marks: the oldest go.
    for (const id of this.marks.keys()) {
      if (this.marks.size <= this.most) return;
      this.marks.delete(id);
    }
  }

  /** True if all of the groups, of which there is at least one, are known to have marked it. */
  covers(id: MessageId, groups: readonly string[]): boolean {
    const marked = this.marks.get(id);
    return marked !== undefined && groups.length > 0 && groups.every((group) => marked.includes(group));
  }

  get isEmpty(): boolean {
    return this.marks.size === 0;
  }

  forget(ids: readonly MessageId[]): void {
    for (const id of ids) this.marks.delete(id);
  }
}
