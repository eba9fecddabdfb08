import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPostgres } from '../../../../../scripts/servers/postgres/postgres.mjs';
import { openSchema } from '../../../../../test/support/postgres-server.js';
import {
  hold,
  key,
  message,
  numbers,
  progress,
  read,
  register,
  row,
  valueOf,
  windowOf,
} from '../../testing/store-contract/fixtures.js';
import { DURABLE } from '../durability.spec.support.js';

/** Writes that are made in one turn of the event loop. */
const TOGETHER: readonly (readonly ('settle' | 'claim' | 'commit point' | 'commit point with rows')[])[] = [
  ['settle', 'settle'],
  ['settle', 'claim'],
  ['settle', 'claim', 'commit point'],
  ['settle', 'claim', 'commit point with rows'],
];

/** Windows 1 and 2 are committed, 3 is claimed, and 4 is not yet; another group makes a settle two statements. */
function together(what: (typeof TOGETHER)[number]): (typeof DURABLE)[number][1] {
  return async (store, crash) => {
    await register(store, 'default', 'other');
    await store.append(numbers(4));
    const lease = await hold(store);
    const messages = await read(store);
    const windows = messages.map((each, n) => windowOf(n + 1, [each]));
    await store.claim(lease, windows.slice(0, 3));
    const groups = await store.commit(lease, { finished: [1, 2], progress: progress(2) });
    const settle = (n: number) =>
      store.settle(lease, [{ window: windows[n]!, messages: [messages[n]!] }], { groups, keep: false });
    const hasRows = what.includes('commit point with rows');
    const commits = hasRows || what.includes('commit point');
    let settled = 0;
    await Promise.all(
      what.map((each) => {
        if (each === 'settle') return settle(settled++);
        if (each === 'claim') return store.claim(lease, [windows[3]!]);
        const effects = new Map([[3, { put: [row('a', 3)], append: [message({}, { stream: 'results' })] }]]);
        const commit = { finished: [1, 2, 3], progress: progress(3) };
        return store.commit(lease, hasRows ? { ...commit, effects } : commit);
      }),
    );
    await crash();
    const { finished, open } = await store.recover(lease);
    expect(finished.map(({ seq }) => seq)).toEqual([1, 2, ...(commits ? [3] : [])].slice(settled));
    expect(open.map(({ seq }) => seq)).toEqual([3, 4].slice(commits ? 1 : 0, what.includes('claim') ? 2 : 1));
    expect((await read(store)).map(({ id }) => id)).toEqual(messages.slice(settled).map(({ id }) => id));
    if (!hasRows) return;
    expect((await store.readState!(key(), ['a'])).map(valueOf)).toEqual([row('a', 3)]);
    await store.registerGroup(key('default', 'results'));
    expect(await read(store, key('default', 'results'))).toHaveLength(1);
  };
}

describe('what PostgreSQL has acknowledged is there after the server was killed', () => {
  let server: Awaited<ReturnType<typeof startPostgres>>;
  // What a statement does not write to the disk itself stays in memory for longer than the test takes.
  beforeAll(async () => void (server = await startPostgres({ settings: ['wal_writer_delay=10s'] })));
  afterAll(() => server?.stop());

  const CASES: typeof DURABLE = [...DURABLE, ...TOGETHER.map((what) => [what.join(' and '), together(what)] as const)];
  it.each(CASES)('%s', { timeout: 60_000 }, async (_, run) => {
    const schema = openSchema(server.url);
    const store = schema.store();
    try {
      await store.open();
      await run(store, async () => {
        await server.kill9();
        await server.restart();
      });
    } finally {
      await store.close();
      await schema.dispose();
    }
  });
});
