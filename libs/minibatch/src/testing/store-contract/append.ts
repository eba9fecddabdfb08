import assert from 'node:assert/strict';
import type { ContractContext, TestFunctions } from './context.js';
import {
  ALL,
  append,
  finish,
  hold,
  ids,
  key,
  message,
  NOON,
  ns,
  numbers,
  partitioned,
  read,
  register,
  STREAM,
} from './fixtures.js';

export function appendContract({ describe, it }: TestFunctions, context: ContractContext): void {
  describe('append', () => {
    it('stores messages in the order of the call, across calls too', async () => {
      const { store } = context;
      await register(store, 'default');
      const first = await append(store, ...numbers(150));
      const second = await append(store, message({ n: 150 }), message({ n: 151 }));
      const all = [...first, ...second];
      assert.deepEqual([...all].sort(), all);
      assert.equal(new Set(all).size, 152);
      const messages = await read(store);
      assert.deepEqual(ids(messages), all);
      assert.deepEqual(ns(messages), [...Array(152).keys()]);
    });

    it('stores messages of several streams in one call', async () => {
      const { store } = context;
      await register(store, 'default');
      const calls = [message({ n: 0 }), message({ n: 1 }, { stream: 'other' }), message({ n: 2 })];
      assert.deepEqual(
        (await store.append(calls)).map(({ status }) => status),
        ['stored', 'stored', 'stored'],
      );
      assert.deepEqual(ns(await read(store)), [0, 2]);
      assert.deepEqual(ns(await read(store, key('default', 'other'))), [1]);
    });

    it('takes an empty call', async () => {
      assert.deepEqual(await context.store.append([]), []);
    });

    it('takes messages on a closed stream, and before the stream was ensured', async () => {
      const { store } = context;
      await append(store, message({ n: 1 }));
      await store.ensureStream(STREAM);
      await store.updateStream(STREAM, { status: 'closed' });
      await append(store, message({ n: 2 }));
      assert.deepEqual(ns(await read(store)), [1, 2]);
    });

    it('keeps everything that concurrent calls of several processes append', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      const calls = Array.from({ length: 40 }, (_, n) =>
        (n % 2 === 0 ? store : other).append([message({ n: n * 2 }), message({ n: n * 2 + 1 })]),
      );
      const appended = (await Promise.all(calls)).flat().map((outcome) => outcome.status);
      assert.deepEqual([...new Set(appended)], ['stored']);
      assert.deepEqual(
        ns(await read(store)).sort((a, b) => Number(a) - Number(b)),
        [...Array(80).keys()],
      );
      assert.deepEqual(ids(await read(store)), ids(await read(other)));
    });

    it('returns key, headers, created and size', async () => {
      const { store } = context;
      await register(store, 'default');
      const headers = { trace: 'abc', __proto__x: 'y', 'content.type': 'json', $h: '' };
      const created = new Date(NOON + 123);
      await append(store, message({ text: 'x'.repeat(1000) }, { key: 'SAT', headers, created }), message('plain'));
      const [full, bare] = await read(store);
      assert.equal(full?.key, 'SAT');
      assert.deepEqual({ ...full?.headers }, headers);
      assert.deepEqual(full?.created, created);
      assert.equal(full?.deduped ?? false, false);
      assert.ok((full?.bytes ?? 0) >= 1000 && (full?.bytes ?? 0) < 2000, `bytes: ${full?.bytes}`);
      assert.equal(bare?.data, 'plain');
      assert.equal(bare?.key, undefined);
      assert.equal(bare?.headers, undefined);
    });

    it('does not hand out what it stores', async () => {
      const { store } = context;
      await register(store, 'default');
      const data = { list: [1] };
      await append(store, message(data));
      data.list.push(2);
      for (const { data: given } of await read(store)) (given as typeof data).list.push(3);
      assert.deepEqual((await read(store))[0]?.data, { list: [1] });
    });

    it('shows a consumer only messages of its partition', async () => {
      const { store } = context;
      await partitioned(store, 2, 'default');
      const outcomes = await store.append([1, 0, 1].map((partition, n) => message({ n }, { partition })));
      const all = outcomes.map((outcome) => (outcome.status === 'stored' ? outcome.id : ''));
      assert.deepEqual([...all].sort(), all);
      assert.deepEqual(ns(await read(store)), [1]);
      assert.deepEqual(ns(await read(store, key('default', STREAM, 1))), [0, 2]);
      assert.deepEqual(await store.scan(key('default', STREAM, 1), undefined, undefined, 10), [all[0], all[2]]);
    });
  });

  describe('dedupe', () => {
    it('ignores the second message of an id, within a call and across calls and processes', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      const outcomes = await store.append([
        message({ n: 0 }, { dedupeId: 'x' }),
        message({ n: 1 }, { dedupeId: 'x' }),
        message({ n: 2 }, { dedupeId: 'y' }),
        message({ n: 3 }),
      ]);
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ['stored', 'duplicate', 'stored', 'stored'],
      );
      const again = await other.append([message({ n: 4 }, { dedupeId: 'y' }), message({ n: 5 }, { dedupeId: 'z' })]);
      assert.deepEqual(
        again.map(({ status }) => status),
        ['duplicate', 'stored'],
      );
      const messages = await read(store);
      assert.deepEqual(ns(messages), [0, 2, 3, 5]);
      assert.deepEqual(
        messages.map(({ deduped }) => deduped ?? false),
        [true, true, false, true],
      );
    });

    it('lets one of many concurrent appends of an id through', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      const calls = Array.from({ length: 20 }, (_, n) =>
        (n % 2 === 0 ? store : other).append([message({ n }, { dedupeId: 'x' })]),
      );
      const statuses = (await Promise.all(calls)).flat().map(({ status }) => status);
      assert.equal(statuses.filter((status) => status === 'stored').length, 1);
      assert.equal(statuses.filter((status) => status === 'duplicate').length, 19);
      assert.equal((await read(store)).length, 1);
    });

    it('has ids for each stream of its own', async () => {
      const { store } = context;
      await append(store, message({}, { dedupeId: 'x' }), message({}, { dedupeId: 'x', stream: 'other' }));
    });

    it('tells ids with NUL from other streams’ ids', async () => {
      const { store } = context;
      await append(store, message({}, { stream: 'a', dedupeId: 'b\0c' }), message({}, { stream: 'a', dedupeId: 'b' }));
      await append(
        store,
        message({}, { stream: 'b', dedupeId: 'c' }),
        message({}, { stream: 'a', dedupeId: '\0b\0c' }),
      );
    });

    it('takes long and strange ids', async () => {
      const { store } = context;
      for (const dedupeId of [
        '',
        '\0',
        'a\0b',
        'a\0',
        '__proto__',
        'a.b',
        '$set',
        'ü'.repeat(500),
        `${'x'.repeat(1000)}1`,
        `${'x'.repeat(1000)}2`,
      ]) {
        const call = () => store.append([message({}, { dedupeId })]);
        assert.equal((await call())[0]?.status, 'stored');
        assert.equal((await call())[0]?.status, 'duplicate');
      }
    });

    it('remembers an id after its message was committed, until it is swept', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, message({ n: 1 }, { dedupeId: 'x' }));
      const lease = await hold(store);
      const before = new Date(Date.now() - 60_000);
      await finish(store, lease, 1, await read(store));
      const retry = () => store.append([message({ n: 2 }, { dedupeId: 'x' })]);
      assert.equal((await retry())[0]?.status, 'duplicate');
      assert.deepEqual(await read(store), []);
      assert.deepEqual(await store.scan(key(), undefined, undefined, 10), []);
      assert.deepEqual((await store.fetchByTime(key(), {}, undefined, ALL)).messages, []);
      assert.equal((await store.stats([STREAM]))[0]?.buffered, 0);

      assert.deepEqual(await store.sweep(STREAM, { tombstones: before }), { tombstones: 0, messages: 0, windows: 0 });
      assert.equal((await retry())[0]?.status, 'duplicate');
      const later = new Date(Date.now() + 60_000);
      assert.deepEqual(await store.sweep(STREAM, { kept: later }), { tombstones: 0, messages: 0, windows: 0 });
      assert.deepEqual(await store.sweep(STREAM, { tombstones: later }), { tombstones: 1, messages: 0, windows: 0 });
      assert.equal((await retry())[0]?.status, 'stored');
      assert.deepEqual(ns(await read(store)), [2]);
    });

    it('does not sweep ids of messages that are in the buffer', async () => {
      const { store } = context;
      await register(store, 'default');
      await append(store, message({ n: 1 }, { dedupeId: 'x' }));
      const later = new Date(Date.now() + 60_000);
      assert.equal((await store.sweep(STREAM, { tombstones: later, kept: later })).tombstones, 0);
      assert.equal((await store.append([message({}, { dedupeId: 'x' })]))[0]?.status, 'duplicate');
      assert.equal((await read(store)).length, 1);
    });
  });
}
