import type { mongo } from 'mongoose';
import type { KeptRange } from '../stream-store.interface.js';
import { type BufferPages, kept, type BufferFilter } from './blocks.js';
import { localAppends } from './change-watch.js';
import type { Collections } from './collections.js';
import { insertMissingRaw, type RawInsert } from './insert-missing.js';
import { copied } from './dead-letter-codec.js';
import { type MessageIds, toObjectId } from './message-ids.js';
import type { RawDocument } from './raw-document.js';
import { sizeOf } from './raw-value.js';
import { guarded } from './store-errors.js';
import { groupsOf } from './streams.js';

/** Number of messages that are copied together. */
const TOGETHER = 500;

/**
 * Delivers kept messages again, as copies that name their original. A message is skipped while the group has a copy of it that it has not
 * committed. So a replay that was interrupted resumes where it stopped when it is repeated. There is no transaction: two simultaneous
 * replays of the same messages for the same group may both copy them; they lose none.
 */
export class Replay {
  constructor(
    private readonly collections: Pick<Collections, 'buffer' | 'stream'>,
    private readonly pages: BufferPages,
    private readonly ids: MessageIds,
  ) {}

  async replay(stream: string, group: string, range: KeptRange): Promise<number> {
    const { buffer } = this.collections;
    return guarded(`replay kept messages of '${stream}'`, async () => {
      const atFirst = await groupsOf(this.collections, stream);
      // Not beyond the message that was the last one at the start: consumers keep more in the meantime.
      const last = await buffer.findOne(inRange(stream, atFirst, range), { sort: { _id: -1 }, projection: { _id: 1 } });
      if (!last) return 0;
      let total = 0;
      for (let after: mongo.ObjectId | undefined; ;) {
        const filter = inRange(stream, atFirst, range, { ...(after && { $gt: after }), $lte: last._id });
        const { documents: originals, more } = await this.pages.find(stream, {
          filter,
          sort: { _id: 1 },
          limit: TOGETHER,
        });
        const copies = await this.copy(stream, group, originals);
        if (copies === undefined) return total;
        total += copies;
        after = originals.at(-1)?.get('_id') as mongo.ObjectId | undefined;
        if (after === undefined || !more) return total;
      }
    });
  }

  /** Undefined if the group no longer exists. */
  private async copy(stream: string, group: string, originals: readonly RawDocument[]): Promise<number | undefined> {
    if (originals.length === 0) return 0;
    const { buffer } = this.collections;
    // Again for each page: groups come and go while a long range is replayed.
    const groups = await groupsOf(this.collections, stream);
    if (!groups.includes(group)) return undefined;
    const others = groups.filter((other) => other !== group);
    const ids = originals.map((document) => document.get('_id') as mongo.ObjectId);
    // By these ids alone: a second condition in addition to `$in` is quadratic on some servers.
    const copies = await buffer
      .find({ replayOf: { $in: ids } }, { projection: { replayOf: 1, processed: 1, done: 1 } })
      .toArray();
    const waiting = new Set(
      copies
        .filter(({ processed, done }) => !processed && !(Array.isArray(done) && done.includes(group)))
        .map(({ replayOf }) => replayOf?.toHexString()),
    );
    const wanted = originals.filter((_, index) => !waiting.has(ids[index]?.toHexString()));
    await insertMissingRaw(
      buffer,
      wanted.map((document) => toReplay(document, this.ids.next(), stream, group, others)),
    );
    if (wanted.length > 0) localAppends.tell([{ stream }]);
    return wanted.length;
  }
}

function inRange(
  stream: string,
  groups: readonly string[],
  { from, to, created }: KeptRange,
  page: object = {},
): BufferFilter {
  const time = { ...(created?.from && { $gte: created.from }), ...(created?.to && { $lt: created.to }) };
  const bounds = [
    ...(from ? [{ $gte: toObjectId(from) }] : []),
    ...(to ? [{ $lt: toObjectId(to) }] : []),
    ...(Object.keys(page).length > 0 ? [page] : []),
  ];
  return {
    ...kept(stream, groups),
    ...(Object.keys(time).length > 0 && { created: time }),
    ...(bounds.length > 0 && { $and: bounds.map((_id) => ({ _id })) }),
  } as BufferFilter;
}

function toReplay(
  original: RawDocument,
  _id: mongo.ObjectId,
  stream: string,
  group: string,
  others: readonly string[],
): RawInsert {
  const content = copied(original);
  const partition = original.get('partition');
  const document = {
    _id,
    stream,
    processed: false,
    ...(typeof partition === 'number' && { partition }),
    ...(others.length > 0 && { done: [...others], waits: [group] }),
    redriven: stream,
    replayOf: original.get('_id'),
    ...content,
  };
  return { document, bytes: sizeOf(document, Object.values(content)) };
}
