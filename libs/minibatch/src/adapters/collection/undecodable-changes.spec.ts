import { BSONError } from 'bson';
import type { mongo } from 'mongoose';
import { describe, expect, it } from 'vitest';
import { WITHOUT_DOCUMENT } from './change-pipeline.js';
import { ChangeStream } from './change-stream.js';

const READING = { operations: ['insert' as const], filter: {}, projection: undefined, batch: 10 };

/** What the driver throws for an event of this document. */
type Failure = Error | undefined;

const tooLarge = () => Object.assign(new Error('BSONObj size is invalid'), { name: 'MongoServerError', code: 10334 });
const token = (n: number) => ({ _data: String(n) });

/** A collection with changes 1, 2, 3, …, of which some fail; as the driver's, a stream that has failed gives nothing any more. */
function collectionOf(
  failures: Readonly<Record<number, () => Failure>>,
  last: number,
  empties = 0,
  arrived: (count: () => number) => object = (bufferedCount) => ({ bufferedCount }),
) {
  const opened: { readonly after: number; readonly bare: boolean }[] = [];
  const watch = (pipeline: readonly unknown[], options: mongo.ChangeStreamOptions) => {
    const after = Number((options.startAfter as { readonly _data: string } | undefined)?._data ?? 0);
    const bare = pipeline.includes(WITHOUT_DOCUMENT);
    opened.push({ after, bare });
    let at = after;
    let empty = empties;
    let closed = false;
    return {
      get resumeToken() {
        return token(at);
      },
      ...arrived(() => last - at),
      close: () => Promise.resolve(),
      tryNext: () => {
        if (closed) return Promise.reject(new Error('ChangeStream is closed'));
        if (empty > 0) {
          empty -= 1;
          return Promise.resolve(null);
        }
        if (at === last) return Promise.resolve(null);
        const n = at + 1;
        const failure = bare ? undefined : failures[n]?.();
        if (failure) {
          closed = true;
          return Promise.reject(failure);
        }
        at = n;
        const event = { _id: token(n), operationType: 'insert', documentKey: { _id: n } };
        return Promise.resolve(bare ? event : { ...event, fullDocument: { _id: n, n } });
      },
    };
  };
  return { collection: { watch } as unknown as mongo.Collection, opened };
}

describe('changes that the driver fails for', () => {
  const open = (collection: mongo.Collection) =>
    ChangeStream.open(collection, READING, { startAfter: token(0) }, new AbortController().signal);

  async function readAll(changes: ChangeStream, count: number) {
    const seen: unknown[] = [];
    for (let looks = 0; looks < 50 && seen.length < count; looks += 1) {
      const events = await changes.read();
      seen.push(...events.map(({ fullDocument, undecodable }) => (undecodable ? undecodable.message : fullDocument)));
    }
    return seen;
  }

  it.each([
    ['text that is not UTF-8', () => new BSONError('Invalid UTF-8 string in BSON document'), 0],
    ['text that is not UTF-8, by a server that answers before it looks', () => new BSONError('Invalid UTF-8'), 2],
    ['an event that is larger than a reply may be', tooLarge, 0],
  ])('come without their document, and the others after them: %s', async (_, failure, empties) => {
    const { collection, opened } = collectionOf({ 1: failure, 3: failure, 4: failure }, 5, empties);
    const changes = await open(collection);
    const odd: unknown = expect.stringContaining('cannot be decoded');
    expect(await readAll(changes, 5)).toEqual([odd, { _id: 2, n: 2 }, odd, odd, { _id: 5, n: 5 }]);
    expect(changes.position).toEqual({ startAfter: token(5) });
    expect(opened.filter(({ bare }) => bare)).toEqual([0, 2, 3].map((after) => ({ after, bare: true })));
  });

  it.each([
    ['of the driver 7.2', (bufferedCount: () => number) => ({ bufferedCount }), 3],
    ['of an earlier driver', (bufferedCount: () => number) => ({ cursor: { bufferedCount } }), 3],
    ['that does not tell what has arrived', () => ({}), 1],
  ])('are read in batches from a stream %s', async (_, arrived, events) => {
    const { collection } = collectionOf({}, 3, 0, arrived);
    const changes = await open(collection);
    expect(await changes.read()).toHaveLength(events);
  });

  it('are whole if the driver does not fail again', async () => {
    let failures = 0;
    const once = () => (failures++ === 0 ? new BSONError('Invalid UTF-8') : undefined);
    const { collection } = collectionOf({ 2: once }, 3);
    const changes = await open(collection);
    expect(await readAll(changes, 3)).toEqual([1, 2, 3].map((n) => ({ _id: n, n })));
  });

  it('fail the stream for any other reason, and the position stays', async () => {
    const { collection, opened } = collectionOf({ 2: () => new Error('connection reset') }, 3);
    const changes = await open(collection);
    await expect(readAll(changes, 3)).rejects.toThrow('connection reset');
    expect(changes.position).toEqual({ startAfter: token(0) });
    expect(opened).toHaveLength(1);
  });
});
