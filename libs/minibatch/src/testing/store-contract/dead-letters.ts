import assert from 'node:assert/strict';
import { BSONRegExp, Double, Int32, Long, ObjectId } from 'bson';
import type {
  DeadLetter,
  DeadLetterFilter,
  Lease,
  StoredMessage,
  StreamStore,
} from '../../storage/stream-store.interface.js';
import type { ContractContext, TestFunctions } from './context.js';
import {
  ALL,
  append,
  bury,
  claimAndCommit,
  die,
  finish,
  hold,
  HOSTILE_NAMES,
  ids,
  key,
  letterOf,
  message,
  NOON,
  ns,
  numbers,
  partitioned,
  read,
  register,
  STREAM,
} from './fixtures.js';

export function deadLettersContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('dead letters', () => {
    it('keeps the very bytes of what was given up', async () => {
      const { store } = context;
      await register(store, 'default');
      const values = [
        new Map<string, unknown>([
          ['10', new Double(2)],
          ['9', Long.fromString('9007199254740993')],
          ['int', new Int32(2)],
        ]),
        { pattern: new BSONRegExp('(?P<name>x)') },
        new Map([['nested', new Map([['_bsontype', 'Double']])]]),
        { $ref: 'y', $id: 1, type: 'object' },
        { big: 2n },
      ];
      await append(store, ...values.map((data) => message(data, { key: 'k' })));
      const lease = await hold(store);
      const before = await read(store);
      await die(store, lease, 1, before);
      const letters = await list(store);
      assert.deepEqual(
        letters.map(({ data, undecodable }) => ({ data, undecodable })),
        before.map((each) => ({ data: each.read().data, undecodable: undefined })),
      );
      assert.equal(await store.redrive(STREAM, {}), values.length);
      const after = await read(store);
      const content = ({ id: _, ...rest }: ReturnType<StoredMessage['read']>) => rest;
      assert.deepEqual(
        after.map((each) => content(each.read())),
        before.map((each) => content(each.read())),
      );
      for (const [n, { data }] of after.entries()) {
        if (typeof data === 'object') assert.deepEqual(Object.keys(data!), Object.keys(before[n]!.data as object));
      }
    });

    it('keeps all that is known of a message that was given up', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      const created = new Date(NOON - 5);
      await append(
        store,
        message({ n: 0 }, { key: 'k', headers: { h: 'v ✈' }, created, dedupeId: 'x' }),
        message({ n: 1 }),
      );
      const lease = await hold(store);
      const [first, second] = await read(store);
      await store.bury(lease, [
        letterOf(first!, { window: 'w-7', attempts: 5, error: 'Error: no ✈', stack: 'Error: no ✈\n    at f' }),
        letterOf(second!, { died: new Date(NOON + 2) }),
      ]);
      const letters = await list(other);
      assert.deepEqual(letters.map(withoutId), [
        {
          stream: STREAM,
          group: 'default',
          messageId: first!.id,
          created,
          data: { n: 0 },
          key: 'k',
          headers: { h: 'v ✈' },
          window: 'w-7',
          consumer: 'Flights.report',
          attempts: 5,
          error: 'Error: no ✈',
          stack: 'Error: no ✈\n    at f',
          died: new Date(NOON + 1),
        },
        {
          stream: STREAM,
          group: 'default',
          messageId: second!.id,
          created: new Date(NOON),
          data: { n: 1 },
          window: 'window',
          consumer: 'Flights.report',
          attempts: 2,
          error: 'went wrong',
          died: new Date(NOON + 2),
        },
      ]);
      assert.equal(typeof letters[0]?.id, 'string');
      // It is a note: the message leaves by its window.
      assert.deepEqual(ns(await read(store)), [0, 1]);
    });

    it('keeps values what they are, in the letter and when the message comes back', async () => {
      const { store } = context;
      await register(store, 'default');
      const values = [
        null,
        false,
        0,
        '',
        { n: null, list: [[1.5, { a: [] }]], at: new Date(-1) },
        JSON.parse('{"__proto__":{"polluted":true},"$set":{"a":1},"a.b":2,"":3}') as unknown,
        { big: -9007199254740993n, small: 5n, id: new ObjectId() },
        Buffer.from([0, 1, 128, 255]),
      ];
      await append(store, ...values.map((data) => message(data)));
      const lease = await hold(store);
      const messages = await read(store);
      const fetched = messages.map(({ data }) => data);
      await die(store, lease, 1, messages);
      assert.deepEqual(
        (await list(store)).map(({ data }) => data),
        fetched,
      );
      assert.equal(await store.redrive(STREAM, {}), values.length);
      assert.deepEqual(
        (await read(store)).map(({ data }) => data),
        fetched,
      );
    });

    it('buries a message once for each group, and lets the first letter stand', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a', 'b');
      await append(store, ...numbers(3));
      const a = await hold(store, key('a'));
      const b = await hold(store, key('b'), 'b');
      const messages = await read(store, key('a'));
      await store.bury(a, []);
      await store.bury(a, [letterOf(messages[0]!)]);
      await bury(other, a, messages, () => ({ error: 'again', attempts: 9 }));
      await bury(store, b, messages.slice(0, 1), () => ({ error: 'in b' }));
      assert.deepEqual(
        (await list(other, { group: 'a' })).map(({ error }) => error),
        ['went wrong', 'again', 'again'],
      );
      assert.deepEqual(
        (await list(other, { group: 'b' })).map(({ error, group }) => [error, group]),
        [['in b', 'b']],
      );
      assert.equal((await list(other)).length, 4);
    });

    it('lists them by id, page by page', async () => {
      const { store } = context;
      await buried(store, 10);
      const all = await list(store);
      assert.deepEqual(letterNs(all), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      assert.deepEqual(ids(all), ids(all).sort());
      const paged: DeadLetter[] = [];
      for (let pages = 0; pages < 4; pages += 1) {
        const page = await store.deadLetters(STREAM, {}, paged.at(-1)?.id, 4);
        assert.equal(page.length, [4, 4, 2, 0][pages]);
        paged.push(...page);
      }
      assert.deepEqual(paged, all);
      // After one that is there no more, too.
      await store.discard(STREAM, { ids: [all[3]!.id] });
      assert.deepEqual(letterNs(await store.deadLetters(STREAM, {}, all[3]!.id, 2)), [4, 5]);
    });

    it('are read up to a number of bytes, one at least', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...[10, 300_000, 300_000, 10, 10].map((size, n) => message({ n, text: 'x'.repeat(size) })));
      await die(store, await hold(store), 1, await read(store));
      const pages: unknown[] = [];
      for (let after: string | undefined; ;) {
        const page = await store.deadLetters(STREAM, {}, after, 4, 250_000);
        if (page.length === 0) break;
        assert.ok(pages.length < 10);
        pages.push(letterNs(page));
        after = page.at(-1)?.id;
      }
      assert.deepEqual(pages, [[0, 1], [2], [3, 4]]);
      const letters = await store.deadLetters(STREAM, {}, undefined, 10);
      const wanted = [letters[2], letters[4]].map((letter) => letter?.id ?? '');
      const some = { ids: [...wanted, 'unknown'] };
      assert.deepEqual(letterNs(await store.deadLetters(STREAM, some, undefined, 10, 1)), [2]);
      assert.deepEqual(letterNs(await store.deadLetters(STREAM, some, wanted[0], 10, 1)), [4]);
      assert.deepEqual(await store.deadLetters(STREAM, some, wanted[1], 10, 1), []);
    });

    it('picks by group, ids and time, by all that is given', async () => {
      const { store } = context;
      await register(store, 'a', 'b');
      await append(store, ...numbers(6));
      const messages = await read(store, key('a'));
      for (const group of ['a', 'b']) {
        const lease = await hold(store, key(group), group);
        await bury(store, lease, messages, (n) => ({ died: new Date(NOON + n * 10) }));
      }
      const a = await list(store, { group: 'a' });
      const b = await list(store, { group: 'b' });
      const before = new Date(NOON + 20);
      const some = [b[4]!.id, a[3]!.id, b[0]!.id, b[0]!.id, 'missing', ''];
      const found = async (filter: DeadLetterFilter, after?: string, limit = 100) =>
        (await store.deadLetters(STREAM, filter, after, limit)).map(({ group, data }) =>
          [group, (data as { n: number }).n].join(''),
        );
      assert.deepEqual(letterNs(a), [0, 1, 2, 3, 4, 5]);
      assert.deepEqual((await found({ before })).sort(), ['a0', 'a1', 'b0', 'b1']);
      assert.deepEqual(await found({ group: 'b', before }), ['b0', 'b1']);
      assert.deepEqual((await found({ ids: some })).sort(), ['a3', 'b0', 'b4']);
      assert.deepEqual(await found({ ids: some, group: 'b' }), ['b0', 'b4']);
      assert.deepEqual(await found({ ids: some, group: 'b' }, undefined, 1), ['b0']);
      assert.deepEqual(await found({ ids: some, group: 'b' }, b[0]!.id), ['b4']);
      assert.deepEqual(await found({ ids: some, group: 'b', before }), ['b0']);
      assert.deepEqual(await found({ group: 'a' }, a[1]!.id, 2), ['a2', 'a3']);
      assert.deepEqual(await found({ ids: [] }), []);
      assert.deepEqual(await found({ group: 'missing' }), []);
      assert.deepEqual(await found({ before: new Date(NOON) }), []);
    });

    it('does nothing where there is nothing', async () => {
      const { store } = context;
      for (const name of ['missing', STREAM]) {
        assert.deepEqual(await store.deadLetters(name, {}, undefined, 10), []);
        assert.equal(await store.redrive(name, {}), 0);
        assert.equal(await store.discard(name, {}), 0);
        await register(store, 'default');
      }
      assert.equal(await store.describeStream('missing'), undefined);
    });

    it('takes any name', async () => {
      const { store } = context;
      for (const name of HOSTILE_NAMES) {
        const consumer = key(name, name);
        await store.ensureStream(name);
        await store.registerGroup(consumer);
        await append(store, message({ name }, { stream: name }));
        await die(store, await hold(store, consumer), 1, await read(store, consumer));
      }
      for (const name of HOSTILE_NAMES) {
        const consumer = key(name, name);
        const letters = await store.deadLetters(name, { group: name }, undefined, 10);
        assert.deepEqual(
          letters.map(({ stream, group, data }) => [stream, group, data]),
          [[name, name, { name }]],
        );
        assert.equal(await store.redrive(name, { ids: ids(letters) }), 1);
        assert.deepEqual(
          (await read(store, consumer)).map(({ data }) => data),
          [{ name }],
        );
      }
    });

    it('counts them', async () => {
      const { store } = context;
      const other = await context.another();
      const count = async () => (await other.stats([STREAM]))[0]?.deadLetters;
      await register(store, 'a', 'b');
      assert.equal(await count(), 0);
      await append(store, ...numbers(5));
      const a = await hold(store, key('a'));
      const messages = await read(store, key('a'));
      const letters = messages.map((each) => letterOf(each));
      await store.bury(a, letters);
      await store.bury(a, letters);
      await store.bury(await hold(store, key('b'), 'b'), letters.slice(0, 2));
      assert.equal(await count(), 7);
      await store.discard(STREAM, { group: 'b' });
      assert.equal(await count(), 5);
      await store.redrive(STREAM, { ids: ids((await list(store)).slice(0, 2)) });
      assert.equal(await count(), 3);
      await store.redrive(STREAM, {});
      assert.equal(await count(), 0);
    });

    it('discards those that match, and nothing else', async () => {
      const { store } = context;
      const other = await context.another();
      await buried(store, 6);
      await append(store, message({ n: 'new' }));
      const all = await list(store);
      assert.equal(await other.discard(STREAM, { ids: [all[1]!.id, all[4]!.id, 'missing'] }), 2);
      assert.equal(await other.discard(STREAM, { ids: [all[1]!.id] }), 0);
      assert.equal(await other.discard(STREAM, { before: new Date(NOON + 1) }), 0);
      assert.deepEqual(letterNs(await list(store)), [0, 2, 3, 5]);
      assert.equal(await store.discard(STREAM, {}), 4);
      assert.deepEqual(await list(store), []);
      assert.deepEqual(ns(await read(store)), ['new']);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 1);
    });

    it('goes with its stream', async () => {
      const { store } = context;
      await buried(store, 3);
      await store.registerGroup(key('default', 'other'));
      await append(store, message({ n: 7 }, { stream: 'other' }));
      const elsewhere = key('default', 'other');
      await die(store, await hold(store, elsewhere), 1, await read(store, elsewhere));
      await store.dropStream(STREAM);
      assert.deepEqual(await list(store), []);
      await register(store, 'default');
      assert.deepEqual(await list(store), []);
      assert.equal(await store.redrive(STREAM, {}), 0);
      assert.equal((await store.stats([STREAM]))[0]?.deadLetters, 0);
      assert.deepEqual(letterNs(await store.deadLetters('other', {}, undefined, 10)), [7]);
    });

    it('stays when its group is removed, until there is one of the name again', async () => {
      const { store } = context;
      await register(store, 'a', 'gone');
      await append(store, ...numbers(3));
      for (const group of ['a', 'gone']) {
        await die(store, await hold(store, key(group), group), 1, await read(store, key(group)));
      }
      await store.removeGroup(STREAM, 'gone');
      assert.equal(await store.redrive(STREAM, { group: 'gone' }), 0);
      assert.equal(await store.redrive(STREAM, {}), 3);
      assert.deepEqual(ns(await read(store, key('a'))), [0, 1, 2]);
      const left = await list(store);
      assert.deepEqual(
        left.map(({ group }) => group),
        ['gone', 'gone', 'gone'],
      );
      assert.equal(await store.redrive(STREAM, { ids: ids(left) }), 0);
      assert.equal(await store.discard(STREAM, { ids: ids(left.slice(0, 1)) }), 1);
      assert.equal((await store.stats([STREAM]))[0]?.deadLetters, 2);

      await finish(store, await hold(store, key('a'), 'a2'), 2, await read(store, key('a')));
      await store.registerGroup(key('gone'));
      assert.equal(await store.redrive(STREAM, {}), 2);
      assert.deepEqual(await read(store, key('a')), []);
      assert.deepEqual(ns(await read(store, key('gone'))), [1, 2]);
    });

    it('goes over to the group that replaces its own', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a', 'b');
      await append(store, ...numbers(5));
      for (const group of ['a', 'b']) {
        await die(store, await hold(store, key(group), group), 1, await read(store, key(group)));
      }
      const before = await list(store);
      await store.registerGroup(key('report'), { replaces: 'a' });
      await store.registerGroup(key('report'), { replaces: 'a' });
      assert.deepEqual(
        await list(other),
        before.map((letter) => ({ ...letter, group: letter.group === 'a' ? 'report' : letter.group })),
      );
      assert.equal((await other.stats([STREAM]))[0]?.deadLetters, 10);
      const letters = await list(other, { group: 'report' });
      assert.deepEqual(letterNs(letters), [0, 1, 2, 3, 4]);
      assert.deepEqual(await list(other, { group: 'a' }), []);
      assert.equal(await store.redrive(STREAM, { group: 'a' }), 0);
      assert.equal(await store.discard(STREAM, { group: 'a' }), 0);

      assert.equal(await other.discard(STREAM, { group: 'report', ids: [letters[3]!.id] }), 1);
      assert.equal(await other.redrive(STREAM, { ids: [letters[1]!.id] }), 1);
      assert.equal(await other.redrive(STREAM, { group: 'report' }), 3);
      assert.deepEqual(ns(await read(store, key('report'))), [1, 0, 2, 4]);
      assert.deepEqual(await read(store, key('b')), []);
      assert.deepEqual(letterNs(await list(store, { group: 'b' })), [0, 1, 2, 3, 4]);

      // Dying again under the new name, and what another group of the old name gives up, are kept apart.
      await store.registerGroup(key('a'));
      await die(store, await hold(store, key('report'), 'r'), 2, await read(store, key('report')));
      await append(store, message({ n: 5 }));
      await die(store, await hold(store, key('a'), 'a2'), 1, (await read(store, key('a'))).slice(-1));
      assert.deepEqual(letterNs(await list(store, { group: 'report' })), [1, 0, 2, 4]);
      assert.deepEqual(letterNs(await list(store, { group: 'a' })), [5]);
      assert.equal(await store.discard(STREAM, { group: 'report' }), 4);
      assert.equal((await store.stats([STREAM]))[0]?.deadLetters, 6);
    });

    it('joins those of a group that has lived before it replaces its own', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'a', 'b');
      await append(store, ...numbers(4));
      const messages = await read(store, key('a'));
      await die(store, await hold(store, key('a')), 1, messages.slice(0, 2), () => ({ error: 'in a' }));
      const b = await hold(store, key('b'), 'b');
      await die(store, b, 1, messages.slice(1, 3), () => ({ error: 'in b' }));
      await finish(store, b, 2, [messages[0]!, messages[3]!]);
      await store.registerGroup(key('b'), { replaces: 'a' });
      const joined = await list(other, { group: 'b' });
      assert.deepEqual(joined.map(({ data, error }) => [(data as { n: number }).n, error].join(' ')).sort(), [
        '0 in a',
        '1 in a',
        '1 in b',
        '2 in b',
      ]);
      assert.deepEqual(joined, await list(other));
      assert.deepEqual(await store.deadLetters(STREAM, { group: 'b' }, joined[1]!.id, 1), joined.slice(2, 3));

      // Each of the two letters of one message leaves on its own; the message is a dead letter as long as one is there.
      const [inB] = joined.filter(({ error, messageId }) => error === 'in b' && messageId === messages[1]!.id);
      assert.equal(await store.discard(STREAM, { ids: [inB!.id] }), 1);
      assert.equal((await list(store, { group: 'b' })).length, 3);
      assert.equal(await store.redrive(STREAM, { group: 'b' }), 3);
      assert.deepEqual(ns(await read(store, key('b'))).sort(), [0, 1, 2]);
      await die(store, b, 3, await read(store, key('b')));
      assert.deepEqual(letterNs(await list(store)).sort(), [0, 1, 2]);
      assert.equal(await other.discard(STREAM, { group: 'b' }), 3);
      const [stats] = await store.stats([STREAM]);
      assert.deepEqual([stats?.deadLetters, stats?.buffered], [0, 0]);
    });
  });

  describe('redrive', () => {
    it('puts messages behind what is there, as new ones with the same content', async () => {
      const { store } = context;
      const other = await context.another();
      await store.ensureStream(STREAM);
      await store.registerGroup(key(), { timeOrder: true });
      const created = new Date(NOON - 1000);
      const extra = { key: 'k', headers: { h: 'v' }, created };
      await append(store, ...numbers(3, extra), message({ n: 'bare' }, { created }));
      const lease = await hold(store);
      const dead = await read(store);
      await die(store, lease, 1, dead);
      await append(store, message({ n: 'before' }));
      const [token] = await other.poll([key()]);

      assert.equal(await store.redrive(STREAM, {}), 4);
      assert.notEqual((await other.poll([key()]))[0], token);
      assert.deepEqual(await list(store), []);
      await append(store, message({ n: 'after' }));
      const messages = await read(other);
      assert.deepEqual(ns(messages), ['before', 0, 1, 2, 'bare', 'after']);
      const back = messages.slice(1, -1);
      assert.deepEqual(
        back.map(({ key: k, headers, created: at }) => ({ key: k, headers, created: at })),
        [...Array(3).fill(extra), { key: undefined, headers: undefined, created }],
      );
      const before = new Set(ids(dead));
      assert.ok(back.every(({ id }) => !before.has(id)));
      assert.ok(back.every(({ bytes, deduped }) => bytes > 0 && !deduped));
      assert.deepEqual(await store.scan(key(), messages[0]!.id, back.at(-1)!.id, 10), ids(back));
      assert.deepEqual(await store.load(key(), ids(back)), back);
      const byTime = await store.fetchByTime(key(), { to: new Date(NOON) }, undefined, ALL);
      assert.deepEqual(ids(byTime.messages), ids(back));
      const [stats] = await store.stats([STREAM]);
      assert.deepEqual([stats?.buffered, stats?.consumers[0]?.pending], [6, 6]);
      await finish(store, lease, 2, messages);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);
    });

    it('brings a message back to its own group only, and lets it leave with it', async () => {
      const { store } = context;
      await register(store, 'a', 'b', 'c');
      await append(store, ...numbers(4));
      const leases = new Map<string, Lease>();
      for (const group of ['a', 'b', 'c']) leases.set(group, await hold(store, key(group), group));
      const messages = await read(store, key('a'));
      await die(store, leases.get('a')!, 1, messages.slice(0, 2));
      await die(store, leases.get('b')!, 1, messages.slice(1));
      // `c` has not seen any of them yet.
      assert.equal(await store.redrive(STREAM, {}), 5);
      const seen = async () => ({
        a: ns(await read(store, key('a'))),
        b: ns(await read(store, key('b'))),
        c: ns(await read(store, key('c'))),
      });
      assert.deepEqual(sorted(await seen()), { a: [0, 1, 2, 3], b: [0, 1, 2, 3], c: [0, 1, 2, 3] });
      const pending = async () => {
        const [stats] = await store.stats([STREAM]);
        const of = new Map(stats?.consumers.map((consumer) => [consumer.group, consumer.pending]));
        return [stats?.buffered, of.get('a'), of.get('b'), of.get('c')];
      };
      assert.deepEqual(await pending(), [9, 4, 4, 4]);

      const back = (await read(store, key('a'))).filter(({ id }) => !ids(messages).includes(id));
      assert.deepEqual(ns(back), [0, 1]);
      assert.deepEqual(await store.load(key('b'), ids(back)), []);
      await finish(store, leases.get('a')!, 2, back);
      assert.deepEqual(await pending(), [7, 2, 4, 4]);
      await finish(store, leases.get('c')!, 1, await read(store, key('c')));
      await finish(store, leases.get('b')!, 2, await read(store, key('b')));
      await finish(store, leases.get('a')!, 3, await read(store, key('a')));
      assert.deepEqual(await pending(), [0, 0, 0, 0]);
      await append(store, message({ n: 4 }));
      assert.deepEqual(await seen(), { a: [4], b: [4], c: [4] });
    });

    it('lets a message go with its own group', async () => {
      const { store } = context;
      await register(store, 'a', 'b');
      await append(store, ...numbers(3));
      const b = await hold(store, key('b'), 'b');
      await finish(store, b, 1, await read(store, key('b')));
      await die(store, await hold(store, key('a')), 1, await read(store, key('a')));
      await store.redrive(STREAM, {});
      await append(store, message({ n: 3 }));
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 4);
      await store.removeGroup(STREAM, 'a');
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 1);
      await store.registerGroup(key('a'));
      assert.deepEqual(ns(await read(store, key('a'))), [3]);
      assert.deepEqual(ns(await read(store, key('b'))), [3]);
    });

    it('moves those that match, and leaves the rest', async () => {
      const { store } = context;
      await register(store, 'a', 'b');
      await append(store, ...numbers(5));
      for (const group of ['a', 'b']) {
        const messages = await read(store, key(group));
        await die(store, await hold(store, key(group), group), 1, messages, (n) => ({ died: new Date(NOON + n) }));
      }
      const a = await list(store, { group: 'a' });
      assert.equal(
        await store.redrive(STREAM, { group: 'a', ids: [a[3]!.id, a[0]!.id], before: new Date(NOON + 3) }),
        1,
      );
      assert.equal(await store.redrive(STREAM, { ids: [a[4]!.id, a[2]!.id, a[0]!.id, 'missing'] }), 2);
      assert.equal(await store.redrive(STREAM, { ids: [] }), 0);
      assert.deepEqual(ns(await read(store, key('a'))), [0, 2, 4]);
      assert.deepEqual(await read(store, key('b')), []);
      assert.deepEqual(letterNs(await list(store, { group: 'a' })), [1, 3]);
      assert.equal(await store.redrive(STREAM, { before: new Date(NOON + 2) }), 3);
      assert.deepEqual(ns(await read(store, key('a'))), [0, 2, 4, 1]);
      assert.deepEqual(ns(await read(store, key('b'))), [0, 1]);
      assert.deepEqual(letterNs(await list(store)).sort(), [2, 3, 3, 4]);
    });

    it('neither loses nor doubles a message when two redrive at a time, or again', async () => {
      const { store } = context;
      const other = await context.another();
      await buried(store, 40);
      const counts = await Promise.all([
        store.redrive(STREAM, {}),
        other.redrive(STREAM, {}),
        store.redrive(STREAM, {}),
      ]);
      assert.ok(counts.every((count) => count >= 0 && count <= 40));
      await other.redrive(STREAM, {});
      assert.deepEqual(
        ns(await read(store)).sort((x, y) => Number(x) - Number(y)),
        numbers(40).map((_, n) => n),
      );
      assert.deepEqual(await list(store), []);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 40);
    });

    it('lets the old message leave and the new one stay when its window was not settled yet', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, ...numbers(2));
      const lease = await hold(store);
      const messages = await read(store);
      await bury(store, lease, messages);
      const { window, groups } = await claimAndCommit(store, lease, 1, messages);
      assert.equal(await store.redrive(STREAM, {}), 2);
      await store.settle(lease, [{ window, messages }], { groups, keep: false });
      await store.settle(lease, [{ window, messages }], { groups, keep: false });
      const back = await read(store);
      assert.deepEqual(ns(back), [0, 1]);
      assert.ok(back.every(({ id }) => !ids(messages).includes(id)));
    });

    it('leaves the dedupe id with the message that had it', async () => {
      const { store } = context;
      const deduped = message({ n: 'x' }, { dedupeId: 'x' });
      const again = async () => (await store.append([deduped]))[0]?.status;
      await register(store, 'default');
      await append(store, deduped);
      const lease = await hold(store);
      await die(store, lease, 1, await read(store));
      await store.redrive(STREAM, {});
      assert.equal(await again(), 'duplicate');
      const [back] = await read(store);
      assert.equal(back?.deduped ?? false, false);
      await finish(store, lease, 2, [back!]);
      assert.equal(await again(), 'duplicate');
      const later = new Date(Date.now() + 60_000);
      assert.deepEqual(await store.sweep(STREAM, { tombstones: later }), { tombstones: 1, messages: 0, windows: 0 });
      assert.equal(await again(), 'stored');
    });

    it('makes a letter of its own of a message that dies again', async () => {
      const { store } = context;
      const lease = await buried(store, 2);
      const first = await list(store);
      await store.redrive(STREAM, {});
      await die(store, lease, 2, await read(store), () => ({ error: 'still' }));
      const second = await list(store);
      assert.deepEqual(letterNs(second), [0, 1]);
      assert.deepEqual(
        second.map(({ error }) => error),
        ['still', 'still'],
      );
      assert.ok(
        second.every(({ id, messageId }) => first.every((old) => old.id !== id && old.messageId !== messageId)),
      );
      assert.deepEqual(await store.deadLetters(STREAM, { ids: ids(first) }, undefined, 10), []);
      assert.equal(await store.redrive(STREAM, {}), 2);
      assert.deepEqual(ns(await read(store)), [0, 1]);
    });

    it('brings messages back to their partition', async () => {
      const { store } = context;
      const consumer = key('default', STREAM, 1);
      await partitioned(store, 2, 'default');
      await append(store, message({ n: 1 }, { partition: 1 }));
      await die(store, await hold(store, consumer), 1, await read(store, consumer));
      assert.equal(await store.redrive(STREAM, {}), 1);
      assert.deepEqual(ns(await read(store, consumer)), [1]);
      assert.deepEqual(await read(store), []);
    });

    it('moves and removes many', async () => {
      const { store } = context;
      const count = 2_500;
      const lease = await buried(store, count);
      assert.equal((await store.stats([STREAM]))[0]?.deadLetters, count);
      assert.equal(await store.redrive(STREAM, {}), count);
      const back = await read(store);
      assert.deepEqual(
        ns(back),
        numbers(count).map((_, n) => n),
      );
      await die(store, lease, 2, back);
      const named = ids(await list(store)).slice(0, 1_800);
      assert.equal(await store.discard(STREAM, { ids: named }), 1_800);
      assert.equal(await store.discard(STREAM, {}), count - 1_800);
      const [stats] = await store.stats([STREAM]);
      assert.deepEqual([stats?.deadLetters, stats?.buffered], [0, 0]);
    });
  });
}

/** A stream with this many dead letters and nothing else. */
async function buried(store: StreamStore, count: number): Promise<Lease> {
  await register(store, 'default');
  await append(store, ...numbers(count));
  const lease = await hold(store);
  await die(store, lease, 1, await read(store));
  return lease;
}

function list(store: StreamStore, filter: DeadLetterFilter = {}): Promise<readonly DeadLetter[]> {
  return store.deadLetters(STREAM, filter, undefined, 10_000);
}

function letterNs(letters: readonly DeadLetter[]): unknown[] {
  return letters.map(({ data }) => (data as { n: unknown }).n);
}

function withoutId({ id: _, ...letter }: DeadLetter): Omit<DeadLetter, 'id'> {
  return letter;
}

function sorted<T extends Record<string, unknown[]>>(lists: T): T {
  for (const each of Object.values(lists)) each.sort();
  return lists;
}
