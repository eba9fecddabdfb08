import { ObjectId } from 'bson';
import type { mongo } from 'mongoose';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { STOP_LIMIT, until, useSource } from './collection-source.spec.support.js';

/** An id as a writer's own clock makes it; `low` puts it below the others of its second. */
function idAt(time: number, low = false): ObjectId {
  const seconds = Math.floor(time / 1000)
    .toString(16)
    .padStart(8, '0');
  return new ObjectId(seconds + (low ? '0'.repeat(16) : new ObjectId().toHexString().slice(8)));
}

describe('CollectionSource with a cursor', () => {
  const test = useSource({ mode: 'cursor', pollInterval: 20 });
  const { start, end, arrived } = test;
  afterEach(() => void vi.restoreAllMocks());

  const stored = () => test.target.stored as { readonly from?: string };

  it('gives what is there, then what comes', async () => {
    await test.orders.insertMany(Array.from({ length: 2500 }, (_, n) => ({ n })));
    start();
    await arrived(2500);
    await test.orders.insertOne({ n: 2500 });
    await arrived(2501);
    expect(test.target.all('n')).toEqual(Array.from({ length: 2501 }, (_, n) => n));
  });

  it('gives each message the dedupe id database.collection:_id', async () => {
    const { insertedId } = await test.orders.insertOne({ n: 1 });
    start();
    await arrived(1);
    expect(test.target.messages[0]).toEqual({
      data: { _id: insertedId, n: 1 },
      dedupeId: `${test.database.name}.orders:${String(insertedId)}`,
    });
  });

  it('finds ids of a second writer below the cursor', async () => {
    const now = Date.now();
    await test.orders.insertOne({ _id: idAt(now), n: 'first' });
    start();
    await arrived(1);
    await test.orders.insertOne({ _id: idAt(now, true), n: 'same second' });
    await test.orders.insertOne({ _id: idAt(now - 4000), n: 'clock behind' });
    await arrived(3);
    expect(test.target.all('n')).toEqual(expect.arrayContaining(['first', 'same second', 'clock behind']));
    // Nothing was given twice on the way: what was seen is not read as a whole again.
    expect(test.target.given).toBe(3);
  });

  it('finds all of two writers whose ids interleave, across restarts', async () => {
    const write = async (writer: string, behind: number) => {
      for (let n = 0; n < 150; n += 1)
        await test.orders.insertOne({ _id: idAt(Date.now() - behind), n: `${writer}${n}` });
    };
    start({ batch: 7 });
    const writing = Promise.all([write('a', 0), write('b', 3000)]);
    for (let restarts = 0; restarts < 5; restarts += 1) {
      const before = test.target.messages.length;
      await until('progress', () => test.target.messages.length > before || test.target.messages.length === 300);
      await end();
      start({ batch: 7 });
    }
    await writing;
    await arrived(300);
    expect(new Set(test.target.all('n')).size).toBe(300);
    expect(test.target.messages).toHaveLength(300);
  });

  it('is not led astray by a writer whose clock is an hour ahead', async () => {
    await test.orders.insertOne({ _id: idAt(Date.now() + 3_600_000), n: 'future' });
    start();
    await arrived(1);
    await test.orders.insertOne({ n: 'now' });
    await arrived(2);
    await end();
    await test.orders.insertOne({ n: 'while stopped' });
    start();
    await arrived(3);
    expect(test.target.all('n')).toEqual(['future', 'now', 'while stopped']);
  });

  it('resumes where it stopped; what is read twice is ignored', async () => {
    await test.orders.insertMany([{ n: 1 }, { n: 2 }]);
    start();
    await arrived(2);
    await end();
    await test.orders.insertOne({ n: 3 });
    start();
    await arrived(3);
    expect(test.target.all('n')).toEqual([1, 2, 3]);
  });

  it('reads nothing twice after a restart once the look-back is over', async () => {
    await test.orders.insertMany([{ n: 1 }, { n: 2 }]);
    start();
    await arrived(2);
    const early = stored().from;
    test.target.clock.jump(12_000);
    await until('the position has reached the newest id', () => stored().from !== early);
    await end();
    await test.orders.insertOne({ n: 3 });
    test.target.given = 0;
    start();
    await arrived(3);
    // The newest one itself, because the position includes it.
    expect(test.target.given).toBe(2);
  });

  it('loses nothing when it is killed between messages and position', async () => {
    await test.orders.insertMany(Array.from({ length: 30 }, (_, n) => ({ n })));
    test.target.losePosition = true;
    start({ batch: 10 });
    await expect(test.running).rejects.toThrow('killed');
    expect(test.target.messages).toHaveLength(10);
    expect(test.target.stored).toBeUndefined();
    test.target.losePosition = false;
    start({ batch: 10 });
    await arrived(30);
    expect(test.target.all('n')).toEqual(Array.from({ length: 30 }, (_, n) => n));
  });

  it('advances its position through a backlog, not only at its end', async () => {
    const old = Date.now() - 3_600_000;
    await test.orders.insertMany(Array.from({ length: 50 }, (_, n) => ({ _id: idAt(old + n * 1000), n })));
    test.target.before = () => {
      if (test.target.messages.length >= 30) throw new Error('store is down');
    };
    start({ batch: 10 });
    await expect(test.running).rejects.toThrow('store is down');
    test.target.before = () => undefined;
    test.target.given = 0;
    start({ batch: 10 });
    await arrived(50);
    // 20 new ones and the last of those before.
    expect(test.target.given).toBe(21);
  });

  it('advances its position also while it never gets to the end', async () => {
    await test.orders.insertMany(Array.from({ length: 100 }, (_, n) => ({ _id: n })) as never[]);
    test.target.before = () => {
      if (test.target.messages.length >= 60) throw new Error('store is down');
      test.target.clock.jump(11_000);
    };
    start({ batch: 10 });
    await expect(test.running).rejects.toThrow('store is down');
    expect(stored().from).toBeDefined();
    test.target.before = () => undefined;
    test.target.given = 0;
    start({ batch: 10 });
    await arrived(100);
    expect(test.target.all('_id')).toEqual(Array.from({ length: 100 }, (_, n) => n));
    expect(test.target.given).toBeLessThan(100);
  });

  it('waits for the append before it reads on', async () => {
    await test.orders.insertMany(Array.from({ length: 40 }, (_, n) => ({ n })));
    let underWay = 0;
    let most = 0;
    test.target.before = async () => {
      underWay += 1;
      most = Math.max(most, underWay);
      await new Promise((resolve) => setImmediate(resolve));
      underWay -= 1;
    };
    start({ batch: 5 });
    await arrived(40);
    expect(most).toBe(1);
  });

  it('with snapshot: false gives only what comes after the start, also after a restart', async () => {
    await test.orders.insertMany([{ n: 'old 1' }, { n: 'old 2' }]);
    start({ snapshot: false });
    await until('a position', () => test.target.stored !== undefined);
    await test.orders.insertOne({ _id: idAt(Date.now() - 5000), n: 'late' });
    await arrived(1);
    await end();
    await test.orders.insertOne({ n: 'new' });
    start({ snapshot: false });
    await arrived(2);
    expect(test.target.all('n')).toEqual(['late', 'new']);
  });

  it('with snapshot: false on an empty collection gives the first document', async () => {
    start({ snapshot: false });
    await until('a position', () => test.target.stored !== undefined);
    await test.orders.insertOne({ n: 1 });
    await arrived(1);
  });

  it('follows numbers, and finds smaller ones that turn up later', async () => {
    await test.orders.insertMany([{ _id: 1 }, { _id: 2 }, { _id: 5 }] as never[]);
    start();
    await arrived(3);
    await test.orders.insertOne({ _id: 3 } as never);
    await arrived(4);
    await end();
    await test.orders.insertOne({ _id: 4 } as never);
    start();
    await arrived(5);
    expect(test.target.all('_id')).toEqual([1, 2, 5, 3, 4]);
  });

  describe('at documents whose field holds an array', () => {
    const at = (day: number) => new Date(Date.UTC(2024, 0, day));
    const follow = { batch: 2, lookBack: 0 } as const;
    /** The last batch of a look ends with an array; some reach into the future. */
    const fill = (place: (value: unknown) => object) =>
      test.orders.insertMany([
        { _id: 1, ...place(at(1)) },
        { _id: 2, ...place([at(2), at(30)]) },
        { _id: 3, ...place(at(3)) },
        { _id: 4, ...place([at(4)]) },
        { _id: 5, ...place([]) },
        { _id: 6, ...place(['x', 1]) },
      ] as never[]);

    it.each([
      ['itself', 'time', (value: unknown) => ({ time: value })],
      [
        'on the way',
        'steps.time',
        (value: unknown) => ({ steps: Array.isArray(value) ? value.map((time) => ({ time })) : { time: value } }),
      ],
    ])('gives the others, each once, and those to unstorable: %s', async (_, field, place) => {
      const refused: unknown[] = [];
      const unstorable = ({ _id }: mongo.BSON.Document) => void refused.push(_id);
      await fill(place);
      start({ field, unstorable, ...follow });
      await arrived(2);
      await test.orders.insertMany([
        { _id: 7, ...place(at(5)) },
        { _id: 8, ...place([at(6), at(7)]) },
        { _id: 9, ...place(at(6)) },
      ] as never[]);
      await arrived(4);
      await until('the arrays', () => [2, 4, 8].every((id) => refused.includes(id)));
      const count = refused.length;
      await test.orders.insertOne({ _id: 10, ...place(at(8)) } as never);
      await arrived(5);
      await end();
      expect(test.target.all('_id')).toEqual([1, 3, 7, 9, 10]);
      expect(refused).toHaveLength(count);
      expect(new Set(refused).size).toBe(count);

      start({ field, unstorable, ...follow });
      await test.orders.insertOne({ _id: 11, ...place(at(9)) } as never);
      await arrived(6);
      expect(test.target.all('_id')).toEqual([1, 3, 7, 9, 10, 11]);
    });

    it("says which document it is with unstorable: 'fail'", async () => {
      await fill((time) => ({ time }));
      start({ field: 'time', unstorable: 'fail', ...follow });
      await expect(test.running).rejects.toMatchObject({
        code: 'MINIBATCH_SOURCE_FAILED',
        message: expect.stringContaining("its 'time' holds an array") as string,
      });
    });

    it('fails where all documents are of that kind', async () => {
      await test.orders.insertMany([{ time: [at(1)] }, { time: [at(2), at(3)] }]);
      start({ field: 'time' });
      await expect(test.running).rejects.toThrow(/no document has a single value there/);
    });
  });

  it('stores how far it is with numbers too, a look-back later', async () => {
    await test.orders.insertMany([{ _id: 1 }, { _id: 2 }] as never[]);
    start();
    await arrived(2);
    test.target.clock.jump(11_000);
    await until('the position has reached 2', () => stored().from === '{"value":{"$numberInt":"2"}}');
  });

  it('gives a document again when the value of its field has changed', async () => {
    const time = Date.now();
    await test.orders.insertMany([{ n: 1, updatedAt: new Date(time) }, { n: 2, updatedAt: new Date(time) }, { n: 3 }]);
    start({ field: 'updatedAt' });
    await arrived(2);
    await test.orders.updateOne({ n: 1 }, { $set: { n: 10, updatedAt: new Date(time + 1) } });
    await arrived(3);
    expect(new Set(test.target.all('n'))).toEqual(new Set([1, 2, 10]));
    expect(test.target.messages).toHaveLength(3);
  });

  it('filters, projects, maps and keys', async () => {
    await test.orders.insertMany([
      { n: 1, state: 'paid', secret: 'x' },
      { n: 2, state: 'open', secret: 'x' },
      { n: 3, state: 'paid', secret: 'x' },
      { n: 4, state: 'paid', secret: 'x' },
    ]);
    start({
      filter: { state: 'paid' },
      projection: { secret: 0 },
      map: ({ n, secret, state }) => (n === 3 ? undefined : { n, secret, state }),
      key: ({ n }) => `key ${String(n)}`,
    });
    await arrived(2);
    expect(test.target.messages.map(({ data, key }) => ({ data, key }))).toEqual([
      { data: { n: 1, secret: undefined, state: 'paid' }, key: 'key 1' },
      { data: { n: 4, secret: undefined, state: 'paid' }, key: 'key 4' },
    ]);
  });

  it('continues when the last field of a projection is not the cursor', async () => {
    await test.orders.insertMany([{ n: 1, at: new Date(1) }] as never[]);
    start({ field: 'at', projection: { n: 1 } });
    await arrived(1);
    await test.orders.insertOne({ n: 2, at: new Date() });
    await arrived(2);
    expect(test.target.all('n')).toEqual([1, 2]);
  });

  it("with unstorable: 'fail', says for which document map threw", async () => {
    await test.orders.insertOne({ _id: 7 } as never);
    const map = () => {
      throw new Error('no customer');
    };
    await expect(test.make({ map, unstorable: 'fail' }).stream(test.target, test.stop.signal)).rejects.toMatchObject({
      code: ErrorCode.SourceFailed,
      message: expect.stringMatching(/the document 7 of \w+\.orders: CollectionSource: map threw: no customer/),
    });
  });

  it.each([
    ['strings as _id', [{ _id: 'b' }], /may be in any order/],
    ['ids that do not grow', [{ _id: { a: 1 } }], /does not grow/],
    ['several kinds', [{ _id: 1 }, { _id: new ObjectId() }], /several kinds/],
  ])('refuses %s', async (_, documents, message) => {
    await test.orders.insertMany(documents as never[]);
    await expect(test.make().stream(test.target, test.stop.signal)).rejects.toMatchObject({
      code: ErrorCode.SourceFailed,
      message,
    });
  });

  it('takes strings where the user says that they grow', async () => {
    await test.orders.insertMany([{ _id: 'a' }, { _id: 'b' }] as never[]);
    start({ field: '_id' });
    await arrived(2);
  });

  it.each(['idle', 'appending'])('stops within a second while %s', async (state) => {
    await test.orders.insertOne({ n: 1 });
    if (state === 'appending') test.target.before = () => new Promise(() => undefined);
    let appending = false;
    const before = test.target.before;
    test.target.before = (data) => {
      appending = true;
      return before(data);
    };
    start({ pollInterval: '1 minute' });
    await until('an append', () => appending);
    const since = performance.now();
    test.stop.abort();
    await test.running;
    expect(performance.now() - since).toBeLessThan(STOP_LIMIT);
  });
});
