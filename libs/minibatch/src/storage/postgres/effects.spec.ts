import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode, type MinibatchError } from '../../errors/minibatch.error.js';
import {
  acquire,
  append,
  hold,
  key,
  message,
  ns,
  numbers,
  openSeqs,
  progress,
  read,
  register,
  row,
  valueOf,
  windowOf,
} from '../../testing/store-contract/fixtures.js';
import type { Commit, Effects } from '../stream-store.interface.js';
import type { PostgresClient, PostgresPool } from './pool.js';
import type { PostgresStreamStore } from './postgres.store.js';

const RESULTS = 'results';

/** Calls `before` with the text of each query, and `after` when the server has answered. */
class WatchedPool implements PostgresPool {
  before: (text: string) => Promise<void> = () => Promise.resolve();
  after: (text: string) => void = () => undefined;
  private readonly pool: pg.Pool;

  constructor(url: string) {
    this.pool = new pg.Pool({ connectionString: url });
  }

  on(event: string, listener: (given?: unknown) => void): unknown {
    return this.pool.on(event as 'error', listener);
  }

  off(event: string, listener: (given?: unknown) => void): unknown {
    return this.pool.off(event as 'error', listener);
  }

  end(): Promise<void> {
    return this.pool.end();
  }

  async connect(): Promise<PostgresClient> {
    const client = await this.pool.connect();
    return {
      query: async (query) => {
        const text = typeof query === 'string' ? query : (query as { text: string }).text;
        await this.before(text);
        const answer = await client.query(query as pg.QueryConfig);
        this.after(text);
        return answer;
      },
      on: (event, listener) => client.on(event as 'error', listener),
      off: (event, listener) => client.off(event as 'error', listener),
      release: (destroy) => client.release(destroy),
    };
  }
}

describe('effects of commits on PostgreSQL', () => {
  let schema: TestSchema;
  let pool: WatchedPool;
  let store: PostgresStreamStore;
  let other: PostgresStreamStore;
  beforeEach(async () => {
    schema = openSchema();
    pool = new WatchedPool(schema.url);
    store = schema.store({ pool });
    other = schema.store();
    await store.open();
    await other.open();
    await register(store, 'default');
    await store.registerGroup(key('default', RESULTS));
  });
  afterEach(async () => {
    await store.close();
    await other.close();
    await pool.end();
    await schema.dispose();
  });

  const output = (n: number, stream = RESULTS) => message({ n }, { stream, dedupeId: `window:${n}` });
  const commitOf = (seq: number, effects: Effects): Commit => ({
    finished: [seq],
    progress: progress(seq),
    effects: new Map([[seq, effects]]),
  });
  const found = async () => ({
    rows: (await other.readState(key(), ['a', 'b'])).map(valueOf),
    results: ns(await read(other, key('default', RESULTS))),
  });

  it.each(['begin', 'minibatch.consumer c set finished', '.state (', '.message (', 'commit'])(
    'are written once when the connection is lost at `%s`, before the server has it or with its answer',
    async (at) => {
      const part = at.replace('minibatch.', '.');
      const isIt = (text: string) => (at === 'commit' ? text === at : text.includes(part));
      const lost = () => Object.assign(new Error('Connection terminated unexpectedly'), { code: 'ECONNRESET' });
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, []), windowOf(2, [])]);
      let losses = 0;
      pool.before = async (text) => {
        if (!isIt(text) || losses > 0) return;
        losses += 1;
        throw lost();
      };
      await store.commit(lease, commitOf(1, { put: [row('a', 1)], append: [output(1)] }));
      pool.before = () => Promise.resolve();
      pool.after = (text) => {
        if (!isIt(text) || losses > 1) return;
        losses += 1;
        throw lost();
      };
      await store.commit(lease, commitOf(2, { put: [row('b', 2)], append: [output(2)] }));
      expect(losses).toBe(2);
      expect(await found()).toEqual({ rows: [row('a', 1), row('b', 2)], results: [1, 2] });
    },
  );

  it(
    'do not keep the lease from others when the process stops in the middle of them',
    { timeout: 60_000 },
    async () => {
      const lease = await hold(store);
      await store.claim(lease, [windowOf(1, [])]);
      let isStopped: () => void = () => undefined;
      let goOn: () => void = () => undefined;
      const stopped = new Promise<void>((resolve) => (isStopped = resolve));
      const gone = new Promise<void>((resolve) => (goOn = resolve));
      pool.before = async (text) => {
        if (!text.includes('.state (')) return;
        isStopped();
        await gone;
      };
      const late = store.commit(lease, commitOf(1, { put: [row('a', 1)], append: [output(1)] })).then(
        () => 'committed',
        (error: MinibatchError) => error.code,
      );
      await stopped;
      const taken = await acquire(other, key(), 'b');
      expect(await openSeqs(other, taken)).toEqual([1]);
      await other.commit(taken, commitOf(1, { put: [row('a', 2)], append: [output(2)] }));
      goOn();
      expect(await late).toBe(ErrorCode.LeaseLost);
      expect(await found()).toEqual({ rows: [row('a', 2)], results: [2] });
    },
  );

  it('go together with the claims and settles of their turn, and leave a window that is refused alone', async () => {
    await append(store, ...numbers(4));
    const lease = await hold(store);
    const messages = await read(store);
    const windows = messages.map((each, n) => windowOf(n + 1, [each]));
    await store.claim(lease, windows.slice(0, 2));
    const groups = await store.commit(lease, commitOf(1, { put: [row('a', 1)] }));
    const settle = (n: number) =>
      store.settle(lease, [{ window: windows[n]!, messages: [messages[n]!] }], { groups, keep: false });
    await Promise.all([
      settle(0),
      store.claim(lease, [windows[2]!]),
      store.commit(lease, { ...commitOf(2, { put: [row('b', 2)], append: [output(2)] }), finished: [1, 2] }),
    ]);
    expect(await found()).toEqual({ rows: [row('a', 1), row('b', 2)], results: [2] });
    // The server refuses the rows; what is beside them goes through.
    await schema.query('alter table minibatch.state add constraint odd check (1 / (octet_length(value) - 10) <> 9)');
    const [settled, claimed, committed] = await Promise.allSettled([
      settle(1),
      store.claim(lease, [windows[3]!]),
      store.commit(lease, commitOf(3, { put: [{ slot: 'a', value: new Uint8Array(10) }], append: [output(3)] })),
    ]);
    expect([settled.status, claimed.status, committed.status]).toEqual(['fulfilled', 'fulfilled', 'rejected']);
    expect(await openSeqs(store, lease)).toEqual([3, 4]);
    expect(ns(await read(store))).toEqual([2, 3]);
    expect(await found()).toEqual({ rows: [row('a', 1), row('b', 2)], results: [2] });
  });

  it('leave the statement of a plain commit point as it is', async () => {
    const lease = await hold(store);
    await store.claim(lease, [windowOf(1, [])]);
    const texts: string[] = [];
    pool.after = (text) => texts.push(text);
    await store.commit(lease, { finished: [1], progress: progress(1) });
    expect(texts).toEqual([expect.stringContaining('update')]);
    texts.length = 0;
    await store.commit(lease, commitOf(2, { put: [row('a', 1)], remove: ['b'], append: [output(1), output(2)] }));
    expect(texts.map((text) => /^[a-z]+/.exec(text)?.[0])).toEqual([
      'begin',
      'with',
      'insert',
      'delete',
      'with',
      'commit',
    ]);
  });

  it('tell other processes of the messages, once they are there', async () => {
    const end = new AbortController();
    let started: () => void = () => undefined;
    let woken: (messages: unknown[]) => void = () => undefined;
    const listening = new Promise<void>((resolve) => (started = resolve));
    const heard = new Promise<unknown[]>((resolve) => (woken = resolve));
    const look = async () => {
      const messages = await read(other, key('default', RESULTS));
      if (messages.length > 0) woken(ns(messages));
    };
    const watcher = { wake: () => void look(), started: () => started(), failed: expect.unreachable };
    const watching = other.watch([RESULTS], watcher, end.signal);
    await listening;
    const lease = await hold(store);
    await store.claim(lease, [windowOf(1, [])]);
    await store.commit(lease, commitOf(1, { append: [output(1)] }));
    expect(await heard).toEqual([1]);
    end.abort();
    await watching;
  });

  it('of consumers that are gone are removed in the end, however they went', async () => {
    const lease = await hold(store);
    const many = Array.from({ length: 12_000 }, (_, n) => row(`slot ${n}`, n, new Date(n)));
    await store.claim(lease, [windowOf(1, [])]);
    await store.commit(lease, commitOf(1, { put: many }));
    await register(store, 'kept');
    await store.commit(await hold(store, key('kept')), commitOf(1, { put: [row('a', 1)] }));
    const count = async () =>
      Number((await schema.query<{ n: string }>('select count(*) as n from minibatch.state'))[0]?.n);
    expect(await count()).toBe(12_001);
    // A process that ends between the two steps of a removal.
    await schema.query(`delete from minibatch.consumer where grp = 'default'`);
    await store.sweep('flights', {});
    expect(await count()).toBe(1);
    await store.dropStream('flights');
    expect(await count()).toBe(0);
  });
});
