import { mongo } from 'mongoose';
import type { Lease, SettledWindow, SettleOptions, StoredMessage } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId } from './consumer-document.js';
import type { Departures } from './departures.js';
import type { WindowDocument } from './schemas/window.schema.js';
import { guarded } from './store-errors.js';
import { windowDocumentId } from './window-codec.js';

/** A kept window's data are copied into its document up to here; beyond, they are only in the buffer. */
const KEPT_DATA_BYTES = 15 * 1024 * 1024;
/** Of an id in the window's array. */
const ID_BYTES = 24;

/** After the commit point: the messages leave, then the windows. Everything is by ids, so it may be repeated. */
export class Settlement {
  /** By stream: the end of the last settlement that was begun. */
  private readonly turns = new Map<string, Promise<void>>();

  constructor(
    private readonly collections: Collections,
    private readonly departures: Departures,
  ) {}

  async settle(lease: Lease, windows: readonly SettledWindow[], options: SettleOptions): Promise<void> {
    if (windows.length === 0) return;
    const { group, stream } = lease.key;
    await guarded(`settle windows of '${group}' on '${stream}'`, async () => {
      const messages = windows.flatMap((settled) => settled.messages);
      const work = () => this.settleMessages(group, messages, options);
      await (options.groups.some((other) => other !== group) ? this.inTurn(stream, work) : work());
      await (options.keep
        ? this.keepWindows(lease, windows, options.at ?? new Date())
        : this.removeWindows(lease, windows));
    });
  }

  /**
   * One group of a stream after the other: side by side, each would mark the same messages; so the later one knows the marks of the
   * earlier one and removes what they have both committed.
   */
  private inTurn(stream: string, work: () => Promise<void>): Promise<void> {
    const turn = (this.turns.get(stream) ?? Promise.resolve()).then(work);
    const over = turn
      .catch(() => undefined)
      .finally(() => {
        if (this.turns.get(stream) === over) this.turns.delete(stream);
      });
    this.turns.set(stream, over);
    return turn;
  }

  /** Messages that no other group waits for leave at once; the others are marked, and leave if this was the last mark. */
  private async settleMessages(
    group: string,
    messages: readonly StoredMessage[],
    { groups, keep, at }: SettleOptions,
  ): Promise<void> {
    const others = groups.filter((other) => other !== group);
    const isLast = ({ id, doneBy }: StoredMessage) => isCovered(others, doneBy) || this.departures.isMarked(id, others);
    const last: StoredMessage[] = [];
    const rest: StoredMessage[] = [];
    for (const message of messages) (isLast(message) ? last : rest).push(message);
    await this.departures.leave(
      last.map(({ id, deduped }) => ({ _id: toId(id), deduped: deduped === true, keep })),
      at,
    );
    await this.departures.mark(
      rest.map(({ id }) => toId(id)),
      group,
      groups,
      keep,
      at,
    );
  }

  /**
   * By `_id`, which this lease made at the claim. Windows adopted from a former holder have ids with its fence: if not all were
   * found, the rest goes by what they have in common.
   */
  private async removeWindows(lease: Lease, windows: readonly SettledWindow[]): Promise<void> {
    const ids = windows.map(({ window }) => windowDocumentId(lease, window.seq));
    const { deletedCount } = await this.collections.window.deleteMany({ _id: { $in: ids } });
    if (deletedCount === windows.length) return;
    await this.collections.window.deleteMany({
      processed: false,
      consumer: consumerDocumentId(lease.key),
      seq: { $in: windows.map(({ window }) => window.seq) },
      fence: lease.fence,
    });
  }

  private async keepWindows(lease: Lease, windows: readonly SettledWindow[], settled: Date): Promise<void> {
    const update = (filter: (seq: number) => mongo.Filter<WindowDocument>) =>
      this.collections.window.bulkWrite(
        windows.map((window) => ({
          updateOne: {
            filter: filter(window.window.seq),
            update: {
              $set: { processed: true, settled, ...(fits(window) && { data: dataOf(window) }) },
              // Done with, and it might not fit beside the data.
              $unset: { split: '' },
            },
          },
        })),
        { ordered: false },
      );
    const { matchedCount } = await update((seq) => ({ _id: windowDocumentId(lease, seq) }));
    if (matchedCount === windows.length) return;
    const adopted = { processed: false, consumer: consumerDocumentId(lease.key), fence: lease.fence };
    await update((seq) => ({ ...adopted, seq }));
  }
}

/** An empty list of marks does not mean that nobody has committed: see `toMessage`. */
function isCovered(others: readonly string[], doneBy: readonly string[] | undefined): boolean {
  if (doneBy === undefined) return others.length === 0;
  return doneBy.length > 0 && others.every((other) => doneBy.includes(other));
}

function fits({ messages }: SettledWindow): boolean {
  return messages.reduce((sum, { bytes }) => sum + bytes + ID_BYTES, 0) <= KEPT_DATA_BYTES;
}

function dataOf({ messages }: SettledWindow): unknown[] {
  return messages.map(({ data }) => data);
}

function toId(id: string): mongo.ObjectId {
  return mongo.ObjectId.createFromHexString(id);
}
