import assert from 'node:assert/strict';
import type { ConsumerKey, StateRow, StreamStore } from '../../storage/stream-store.interface.js';
import { type ContractContext, onlyWithState, type TestFunctions } from './context.js';
import { finishWith, hold, key, partitioned, register, row, STREAM, valueOf } from './fixtures.js';

const ANY = { rows: 10_000, bytes: Number.MAX_SAFE_INTEGER };

/** Slots that are easily taken for each other, or for something else. */
const SLOTS = [
  'a',
  'A',
  'a ',
  ' a',
  'a.b',
  '$set',
  '__proto__',
  'constructor',
  '\u0001',
  '\u007f',
  'e\u0301',
  '\u00e9',
  '\uffff',
  '\u{1f6eb}',
  'x'.repeat(256),
  'x'.repeat(255),
  '\u{1f6eb}'.repeat(64),
];

export function stateContract(test: TestFunctions, context: ContractContext): void {
  const { describe, it } = onlyWithState(test, context);
  describe('state of consumers', () => {
    it('has rows by their slots, as they were put', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await hold(store);
      const bytes = Uint8Array.from({ length: 256 }, (_, n) => n);
      const rows: StateRow[] = [
        { slot: 'empty', value: new Uint8Array() },
        { slot: 'bytes', value: bytes, due: new Date(0) },
        { slot: 'large', value: new Uint8Array(1024 * 1024).fill(7) },
      ];
      await finishWith(store, lease, 1, { put: rows });
      assert.deepEqual(await readAll(store, key(), ['bytes', 'none', 'large', 'empty']), sorted(rows));
      assert.deepEqual(await store.readState!(key(), []), []);
      assert.deepEqual(await store.readState!(key(), ['none']), []);
    });

    it('tells slots apart by every byte', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await hold(store);
      const rows = SLOTS.map((slot, n) => row(slot, n, n % 2 === 0 ? new Date(n) : undefined));
      await finishWith(store, lease, 1, { put: rows });
      assert.deepEqual(await readAll(store, key(), SLOTS), sorted(rows));
      assert.deepEqual(await listAll(store, key(), 3), sorted(rows));
      await finishWith(store, lease, 2, { remove: SLOTS.slice(1) });
      assert.deepEqual(await listAll(store, key(), 100), rows.slice(0, 1));
    });

    it('puts whole rows in place of those with the same slots, and removes rows', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await hold(store);
      await finishWith(store, lease, 1, { put: [row('a', 1, new Date(5)), row('b', 2), row('c', 3)] });
      await finishWith(store, lease, 2, { put: [row('a', 4), row('b', 5, new Date(6))], remove: ['c', 'never'] });
      assert.deepEqual(await listAll(store, key(), 100), [row('a', 4), row('b', 5, new Date(6))]);
      assert.deepEqual(await due(store, new Date(1000)), [row('b', 5, new Date(6))]);
      await finishWith(store, lease, 3, { put: [row('c', 6)], remove: ['a', 'b'] });
      assert.deepEqual(await listAll(store, key(), 100), [row('c', 6)]);
      assert.deepEqual(await due(store, new Date(1000)), []);
    });

    it('finds rows that are due by their time, then by their slot', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await hold(store);
      const order = [
        row('z', 1, new Date(-62_135_596_800_000)),
        row('y', 2, new Date(-1)),
        row('x', 3, new Date(0)),
        row('a', 4, new Date(NOW)),
        row('b', 5, new Date(NOW)),
        row('\uffff', 6, new Date(NOW)),
        row('\u{1f6eb}', 7, new Date(NOW)),
        row('w', 8, new Date(NOW + 1)),
        row('v', 9, new Date(8.64e15)),
      ];
      await finishWith(store, lease, 1, { put: [...order].reverse() });
      await finishWith(store, lease, 2, { put: [row('not due', 10)] });
      assert.deepEqual(await due(store, new Date(8.64e15)), order);
      assert.deepEqual(await due(store, new Date(NOW)), order.slice(0, 7));
      assert.deepEqual(await due(store, new Date(NOW - 1)), order.slice(0, 3));
      for (const [n, after] of order.entries()) {
        assert.deepEqual(
          await due(store, new Date(NOW), after, { ...ANY, rows: 2 }),
          order.slice(n + 1, Math.min(n + 3, 7)),
        );
      }
      // The row that a read went on from may be gone, or due at another time.
      await finishWith(store, lease, 3, { put: [row('b', 11, new Date(1))], remove: ['a'] });
      assert.deepEqual(await due(store, new Date(NOW), order[4]), order.slice(5, 7));
      assert.deepEqual(await due(store, new Date(2), order[2]), [row('b', 11, new Date(1))]);
    });

    it('reads in pages of rows or of bytes, and one row at least', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await hold(store);
      const rows = Array.from({ length: 25 }, (_, n) => ({
        slot: String.fromCodePoint(97 + n),
        value: new Uint8Array(n === 12 ? 5000 : 100).fill(n),
        due: new Date(n),
      }));
      await finishWith(store, lease, 1, { put: rows });
      assert.deepEqual(await due(store, new Date(99), undefined, { rows: 4, bytes: 10_000 }), rows.slice(0, 4));
      assert.deepEqual(await due(store, new Date(99), undefined, { rows: 100, bytes: 350 }), rows.slice(0, 3));
      assert.deepEqual(await due(store, new Date(99), rows[11], { rows: 100, bytes: 350 }), rows.slice(12, 13));
      const page = await store.listState!(key(), undefined, { rows: 100, bytes: 350 });
      assert.deepEqual([page.rows.length, typeof page.next], [3, 'string']);
      assert.deepEqual(await listAll(store, key(), 4), rows);
      assert.deepEqual(await listAll(store, key(), 100, 350), rows);
      assert.deepEqual(
        await store.listState!(key(), undefined, { rows: 25, bytes: 100_000 }).then(({ rows: all }) => all.length),
        25,
      );
    });

    it('has as many rows as one commit has room for', async () => {
      const { store } = context;
      await register(store, 'default');
      const lease = await hold(store);
      const rows = Array.from({ length: 3000 }, (_, n) => row(`key-${String(n).padStart(5, '0')}`, n, new Date(n)));
      await finishWith(store, lease, 1, { put: rows });
      assert.deepEqual(await listAll(store, key(), 700), rows);
      assert.deepEqual(
        await readAll(
          store,
          key(),
          rows.slice(0, 2000).map(({ slot }) => slot),
        ),
        rows.slice(0, 2000),
      );
      await finishWith(store, lease, 2, { remove: rows.map(({ slot }) => slot) });
      assert.deepEqual(await listAll(store, key(), 100), []);
    });

    it('is apart for each consumer', async () => {
      const { store } = context;
      await partitioned(store, 2, 'a', 'b');
      const consumers = [key('a'), key('b'), key('a', STREAM, 1), key('a', 'other')];
      await store.ensureStream('other');
      await store.registerGroup(key('a', 'other'));
      for (const [n, consumer] of consumers.entries()) {
        await finishWith(store, await hold(store, consumer), 1, { put: [row('same', n, new Date(n))] });
      }
      for (const [n, consumer] of consumers.entries()) {
        const only = [row('same', n, new Date(n))];
        assert.deepEqual(await readAll(store, consumer, ['same']), only);
        assert.deepEqual(await due(store, new Date(99), undefined, ANY, consumer), only);
        assert.deepEqual(await listAll(store, consumer, 10), only);
      }
    });

    it('is empty for consumers that are not there', async () => {
      const { store } = context;
      await register(store, 'default');
      for (const consumer of [key('none'), key('default', 'none'), key('default', STREAM, 7), key()]) {
        assert.deepEqual(await readAll(store, consumer, ['a']), []);
        assert.deepEqual(await due(store, new Date(NOW), undefined, ANY, consumer), []);
        assert.deepEqual(await listAll(store, consumer, 10), []);
      }
    });

    it('goes with its group, and does not come back with it', async () => {
      const { store } = context;
      await register(store, 'default', 'other');
      await finishWith(store, await hold(store), 1, { put: [row('a', 1, new Date(1))] });
      await finishWith(store, await hold(store, key('other')), 1, { put: [row('a', 2, new Date(1))] });
      await store.removeGroup(STREAM, 'default');
      assert.deepEqual(await listAll(store, key(), 10), []);
      await register(store, 'default');
      const lease = await hold(store);
      assert.deepEqual(await readAll(store, key(), ['a']), []);
      assert.deepEqual(await due(store, new Date(NOW)), []);
      assert.deepEqual(await listAll(store, key('other'), 10), [row('a', 2, new Date(1))]);
      // It begins to count windows anew, and its rows count again.
      await finishWith(store, lease, 1, { put: [row('a', 3)] });
      assert.deepEqual(await listAll(store, key(), 10), [row('a', 3)]);
    });

    it('goes with its stream, and does not come back with it', async () => {
      const { store } = context;
      await register(store, 'default');
      await finishWith(store, await hold(store), 5, { put: [row('a', 1, new Date(1))] });
      await store.dropStream(STREAM);
      assert.deepEqual(await listAll(store, key(), 10), []);
      await register(store, 'default');
      const lease = await hold(store);
      assert.deepEqual(await listAll(store, key(), 10), []);
      assert.deepEqual(await due(store, new Date(NOW)), []);
      await finishWith(store, lease, 1, { put: [row('a', 2)] });
      assert.deepEqual(await readAll(store, key(), ['a']), [row('a', 2)]);
    });

    it('follows when another group takes its place', async () => {
      const { store } = context;
      await partitioned(store, 2, 'old');
      await finishWith(store, await hold(store, key('old')), 1, { put: [row('a', 1, new Date(1)), row('b', 2)] });
      await finishWith(store, await hold(store, key('old', STREAM, 1)), 1, { put: [row('a', 3)] });
      await store.registerGroup(key('new'), { replaces: 'old' });
      assert.deepEqual(await listAll(store, key('new'), 10), [row('a', 1, new Date(1)), row('b', 2)]);
      assert.deepEqual(await listAll(store, key('new', STREAM, 1), 10), [row('a', 3)]);
      assert.deepEqual(await listAll(store, key('old'), 10), []);
      const lease = await hold(store, key('new'));
      await finishWith(store, lease, 2, { put: [row('a', 4, new Date(2))], remove: ['b'] });
      assert.deepEqual(await due(store, new Date(NOW), undefined, ANY, key('new')), [row('a', 4, new Date(2))]);
      assert.deepEqual(await readAll(store, key('new'), ['a', 'b']), [row('a', 4, new Date(2))]);
    });

    it('is seen by every process', async () => {
      const { store } = context;
      const other = await context.another();
      await register(store, 'default');
      await finishWith(store, await hold(store), 1, { put: [row('a', 1, new Date(1))] });
      assert.deepEqual(await readAll(other, key(), ['a']), [row('a', 1, new Date(1))]);
      await finishWith(other, await hold(other, key(), 'b'), 2, { put: [row('b', 2)], remove: ['a'] });
      assert.deepEqual(await listAll(store, key(), 10), [row('b', 2)]);
    });
  });
}

const NOW = Date.UTC(2024, 0, 1, 12);

async function readAll(store: StreamStore, consumer: ConsumerKey, slots: readonly string[]): Promise<StateRow[]> {
  return sorted((await store.readState!(consumer, slots)).map(valueOf));
}

async function due(
  store: StreamStore,
  before: Date,
  after?: Pick<StateRow, 'slot' | 'due'>,
  limits = ANY,
  consumer = key(),
): Promise<StateRow[]> {
  return (await store.dueState!(consumer, before, after, limits)).map(valueOf);
}

/** All rows by their slots; each must come once. */
async function listAll(
  store: StreamStore,
  consumer: ConsumerKey,
  rows: number,
  bytes = ANY.bytes,
): Promise<StateRow[]> {
  const found: StateRow[] = [];
  for (let after: string | undefined; ;) {
    const page = await store.listState!(consumer, after, { rows, bytes });
    assert.ok(page.rows.length <= rows, `${page.rows.length} rows in a page of ${rows}`);
    found.push(...page.rows.map(valueOf));
    if (page.next === undefined) return sorted(found);
    after = page.next;
  }
}

function sorted(rows: readonly StateRow[]): StateRow[] {
  return rows.toSorted((a, b) => Buffer.compare(Buffer.from(a.slot), Buffer.from(b.slot)));
}
