import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openSchema, postgresUrl, type TestSchema } from '../../../../../test/support/postgres-server.js';
import {
  finish,
  finishWith,
  hold,
  key,
  letterOf,
  message,
  numbers,
  register,
  STREAM,
} from '../../testing/store-contract/fixtures.js';
import type { StateRow } from '../stream-store.interface.js';
import type { PostgresClient, PostgresPool } from './pool.js';
import type { PostgresStreamStore } from './postgres.store.js';

interface Plan {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Rows Removed by Join Filter'?: number;
  readonly 'Rows Removed by Index Recheck'?: number;
  readonly Plans?: readonly Plan[];
}

interface Step {
  readonly step: string;
  readonly rows: number;
}

/** The step of the plan that has looked at the most rows. */
function largest(plan: Plan): Step {
  const rows =
    plan['Actual Rows'] +
    (plan['Rows Removed by Filter'] ?? 0) +
    (plan['Rows Removed by Join Filter'] ?? 0) +
    (plan['Rows Removed by Index Recheck'] ?? 0);
  const own = {
    step: `${plan['Actual Loops']} × ${plan['Node Type']} ${plan['Relation Name'] ?? plan['Index Name'] ?? ''}`,
    rows: rows * plan['Actual Loops'],
  };
  return (plan.Plans ?? []).map(largest).reduce((most, each) => (each.rows > most.rows ? each : most), own);
}

/** Statements about messages. */
const EXPLAINED = /\.(done|claim|message|dedupe|kept_message|dead_letter|state)\b/;

/** Explains each statement about messages before it is carried out. On a single connection, which keeps the plans that it has made. */
class ExplainingPool implements PostgresPool {
  readonly seen: (Step & { readonly text: string })[] = [];
  private readonly names = new Map<string, string>();
  private readonly pool: pg.Pool;
  private last = 0;

  constructor(url: string) {
    this.pool = new pg.Pool({ connectionString: url, max: 1 });
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
    let isInTransaction = false;
    return {
      query: async (query) => {
        if (typeof query === 'string') {
          if (query.startsWith('begin')) isInTransaction = true;
          if (query === 'commit' || query === 'rollback') isInTransaction = false;
        } else {
          const sent = query as { name?: string; text: string; values: unknown[] };
          if (EXPLAINED.test(sent.text)) await this.explain(client, sent, isInTransaction);
        }
        return client.query(query as pg.QueryConfig);
      },
      on: (event, listener) => client.on(event as 'error', listener),
      off: (event, listener) => client.off(event as 'error', listener),
      release: (destroy) => client.release(destroy),
    };
  }

  /** Makes plans for any values, which the server keeps whatever the tables become. */
  async plan(texts: readonly string[]): Promise<void> {
    const client = await this.pool.connect();
    await client.query('set plan_cache_mode = force_generic_plan');
    for (const text of texts) {
      const name = await this.prepared(client, text);
      const sql = `select coalesce(array_length(parameter_types, 1), 0) as count from pg_prepared_statements where name = $1`;
      const { rows } = await client.query<{ count: number }>(sql, [name]);
      await client.query(`explain execute ${name}${listed(Array.from({ length: rows[0]?.count ?? 0 }, () => null))}`);
    }
    client.release();
  }

  private async prepared(client: pg.PoolClient, text: string): Promise<string> {
    const known = this.names.get(text);
    if (known !== undefined) return known;
    const name = `explained_${(this.last += 1)}`;
    this.names.set(text, name);
    await client.query(`prepare ${name} as ${text}`);
    return name;
  }

  private async explain(
    client: pg.PoolClient,
    sent: { readonly name?: string; readonly text: string; readonly values: readonly unknown[] },
    isInTransaction: boolean,
  ): Promise<void> {
    const { text, values } = sent;
    // One without a name is planned each time.
    if (sent.name === undefined) this.names.delete(text);
    const name = await this.prepared(client, text);
    await client.query(isInTransaction ? 'savepoint explained' : 'begin');
    const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: Plan }] }>(
      `explain (analyze, timing off, format json) execute ${name}${listed(values)}`,
    );
    await client.query(isInTransaction ? 'rollback to explained' : 'rollback');
    this.seen.push({ ...largest(rows[0]!['QUERY PLAN'][0].Plan), text });
  }
}

/** Values as they stand in a statement; the server takes their types from the parameters. */
function listed(values: readonly unknown[]): string {
  if (values.length === 0) return '';
  return `(${values.map((each) => (each === null ? 'null' : pg.escapeLiteral(textOf(each)))).join(', ')})`;
}

function textOf(value: unknown): string {
  if (Buffer.isBuffer(value)) return `\\x${value.toString('hex')}`;
  if (Array.isArray(value)) return `{${value.map((each) => JSON.stringify(textOf(each))).join(',')}}`;
  return String(value);
}

interface Sizes {
  readonly count: number;
  readonly window: number;
}

const FULL = { count: 3_000, window: 500 };
/** Calls everything once. */
const SMALL = { count: 4, window: 2 };

async function fill(store: PostgresStreamStore, { count, window }: Sizes): Promise<void> {
  for (let from = 0; from < count; from += window) {
    await store.append(numbers(window).map(({ data }, n) => message(data, { dedupeId: `${from + n}` })));
  }
}

async function drain(store: PostgresStreamStore, group: string, { window }: Sizes, keep = false): Promise<void> {
  const lease = await hold(store, key(group), group);
  for (let seq = 1; ; seq += 1) {
    const { messages } = await store.fetch(key(group), undefined, { messages: window, bytes: 1e9 });
    if (messages.length === 0) return;
    const scanned = await store.scan(key(group), undefined, undefined, window);
    expect(await store.load(key(group), scanned)).toHaveLength(messages.length);
    await finish(store, lease, seq, messages, { keep });
  }
}

const isEmpty = async (store: PostgresStreamStore) => expect(await store.count(STREAM, 1)).toBe(0);

const SCENARIOS: Readonly<Record<string, (store: PostgresStreamStore, sizes: Sizes) => Promise<void>>> = {
  async 'two groups'(store, sizes) {
    await fill(store, sizes);
    await drain(store, 'a', sizes);
    await drain(store, 'b', sizes);
    await store.sweep(STREAM, {});
    await isEmpty(store);
  },
  async 'a group that is renamed, and one that is removed'(store, sizes) {
    await fill(store, sizes);
    await drain(store, 'a', sizes);
    await store.registerGroup({ stream: STREAM, group: 'new' }, { replaces: 'a' });
    await store.removeGroup(STREAM, 'b');
    await isEmpty(store);
  },
  async 'kept messages that are replayed, and swept'(store, sizes) {
    await fill(store, sizes);
    await drain(store, 'a', sizes, true);
    await drain(store, 'b', sizes, true);
    expect(await store.replay(STREAM, 'a', {})).toBe(sizes.count);
    expect(await store.replay(STREAM, 'a', {})).toBe(0);
    await drain(store, 'a', sizes);
    await isEmpty(store);
    const end = new Date(Date.now() + 60_000);
    expect(await store.sweep(STREAM, { tombstones: end, kept: end })).toMatchObject({ messages: sizes.count });
  },
  async 'dead letters that are redriven, and discarded'(store, sizes) {
    await fill(store, sizes);
    await drain(store, 'b', sizes);
    const lease = await hold(store, key('a'), 'a');
    for (const then of [() => store.redrive(STREAM, {}), () => store.discard(STREAM, {})]) {
      const { messages } = await store.fetch(key('a'), undefined, { messages: sizes.count, bytes: 1e9 });
      for (let from = 0; from < sizes.count; from += sizes.window) {
        const some = messages.slice(from, from + sizes.window);
        await store.bury(
          lease,
          some.map((each) => letterOf(each)),
        );
        expect(await store.deadLetters(STREAM, {}, undefined, 1)).toHaveLength(1);
        await finish(store, lease, from, some);
      }
      expect(await then()).toBe(sizes.count);
    }
    await isEmpty(store);
  },
  async 'rows of state, and messages that commits append'(store, { count, window }) {
    const rows = (from: number, value: string) =>
      Array.from({ length: window }, (_, n) => ({
        slot: `slot ${from + n}`,
        value: Buffer.from(value),
        due: new Date(from + n),
      }));
    for (const group of ['a', 'b']) {
      const lease = await hold(store, key(group), group);
      let seq = 0;
      for (const value of ['first', 'second']) {
        for (let from = 0; from < count; from += window) {
          const put = rows(from, value);
          await finishWith(store, lease, (seq += 1), { put, append: numbers(window, { stream: 'results' }) });
          const slots = put.map(({ slot }) => slot);
          expect(await store.readState(key(group), slots)).toHaveLength(window);
        }
      }
      const limits = { rows: window, bytes: 1e9 };
      for (let found: StateRow | undefined, pages = 0; pages < count / window; pages += 1) {
        const page = await store.dueState(key(group), new Date(count), found, limits);
        expect(page).toHaveLength(window);
        found = page.at(-1);
      }
      let left = 0;
      for (let after: string | undefined, isLast = false; !isLast;) {
        const page = await store.listState(key(group), after, limits);
        left += page.rows.length;
        after = page.next;
        isLast = after === undefined;
      }
      expect(left).toBe(count);
      await finishWith(store, lease, seq + 1, { remove: rows(0, '').map(({ slot }) => slot) });
    }
    await store.removeGroup(STREAM, 'a');
    expect(await store.listState(key('b'), undefined, { rows: 1, bytes: 1 })).toHaveProperty('next');
    await store.sweep(STREAM, {});
  },
  async 'messages that expire, and a stream that is dropped'(store, sizes) {
    await fill(store, sizes);
    await store.fetchByTime(key('a'), {}, undefined, { messages: sizes.count, bytes: 1e9 });
    for (const group of ['a', 'b']) await store.removeGroup(STREAM, group);
    await store.updateStream(STREAM, { clear: true });
    expect(await store.expire(STREAM)).toBe(sizes.count);
    await store.append(numbers(sizes.window));
    await store.dropStream(STREAM);
  },
};

/** One of its own: transactions of other tests keep the rows that they may still see, and a statement looks at them, too. */
async function makeDatabase(): Promise<string> {
  const url = new URL(postgresUrl());
  const name = `plans_${randomUUID().replaceAll('-', '')}`;
  await openSchema().query(`create database ${name}`);
  url.pathname = `/${name}`;
  return url.href;
}

async function dropDatabase(url: string): Promise<void> {
  await openSchema().query(`drop database ${new URL(url).pathname.slice(1)} with (force)`);
}

const TABLES = ['message', 'done', 'claim', 'dedupe', 'kept_message', 'kept_window', 'dead_letter', 'state'];

describe.each(Object.entries(SCENARIOS))('statements about %s', (_, run) => {
  let schemas: TestSchema[];
  let pools: ExplainingPool[];
  let url: string;
  beforeAll(async () => {
    url = await makeDatabase();
  });
  afterAll(() => dropDatabase(url));
  beforeEach(() => {
    schemas = [];
    pools = [];
  });
  afterEach(async () => {
    for (const pool of pools) await pool.end();
    for (const schema of schemas) await schema.dispose();
  });

  const open = async () => {
    const schema = openSchema(url);
    const pool = new ExplainingPool(schema.url);
    schemas.push(schema);
    pools.push(pool);
    const store = schema.store({ pool, notify: false });
    await store.open();
    await register(store, 'a', 'b');
    // Its statistics stay as they are: the server must not analyze again while the test runs.
    for (const table of TABLES) {
      await schema.query(`alter table minibatch.${table} set (autovacuum_enabled = false)`);
    }
    return { schema, pool, store };
  };
  /** A read from the beginning passes all that the group has marked. What is about one window sees the marks of that window alone. */
  const expectLinear = ({ seen }: ExplainingPool) => {
    expect(seen.length).toBeGreaterThan(0);
    const most = (text: string) => (text.includes('held as materialized') ? 2 * FULL.window : 2 * FULL.count);
    expect(seen.filter(({ text, rows }) => rows > most(text))).toEqual([]);
  };

  it('examine each row once if the server has analyzed the tables while they were empty', async () => {
    const { schema, pool, store } = await open();
    for (const table of TABLES) await schema.query(`analyze minibatch.${table}`);
    await run(store, FULL);
    await store.close();
    expectLinear(pool);
  });

  it('examine each row once if the server has planned them while the tables were empty', async () => {
    const first = await open();
    await run(first.store, SMALL);
    await first.store.close();
    const { schema, pool, store } = await open();
    const texts = new Set(first.pool.seen.map(({ text }) => text.replaceAll(first.schema.schema, schema.schema)));
    await pool.plan([...texts]);
    await run(store, FULL);
    await store.close();
    expectLinear(pool);
  });
});
