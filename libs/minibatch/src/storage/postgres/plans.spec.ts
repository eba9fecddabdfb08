import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { finish, hold, key, message, numbers, register, STREAM } from '../../testing/store-contract/fixtures.js';
import type { PostgresClient, PostgresPool } from './pool.js';
import type { PostgresStreamStore } from './postgres.store.js';

interface Plan {
  readonly 'Node Type': string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Rows Removed by Join Filter'?: number;
  readonly 'Rows Removed by Index Recheck'?: number;
  readonly Plans?: readonly Plan[];
}

/** The most rows that one step of the plan has looked at. */
function examined(plan: Plan): number {
  const rows =
    plan['Actual Rows'] +
    (plan['Rows Removed by Filter'] ?? 0) +
    (plan['Rows Removed by Join Filter'] ?? 0) +
    (plan['Rows Removed by Index Recheck'] ?? 0);
  return Math.max(rows * plan['Actual Loops'], ...(plan.Plans ?? []).map(examined));
}

/** Explains each statement about marks before it is carried out. */
class ExplainingPool implements PostgresPool {
  readonly examined: number[] = [];
  explains = false;

  constructor(private readonly pool: pg.Pool) {}

  on(event: string, listener: (given?: unknown) => void): unknown {
    return this.pool.on(event as 'error', listener);
  }

  off(event: string, listener: (given?: unknown) => void): unknown {
    return this.pool.off(event as 'error', listener);
  }

  async connect(): Promise<PostgresClient> {
    const client = await this.pool.connect();
    let isInTransaction = false;
    return {
      query: async (query) => {
        if (typeof query === 'string') {
          if (query === 'begin') isInTransaction = true;
          if (query === 'commit' || query === 'rollback') isInTransaction = false;
        } else if (this.explains) {
          const { text, values } = query as { text: string; values: unknown[] };
          if (/\.done\b/.test(text)) await this.explain(client, text, values, isInTransaction);
        }
        return client.query(query as pg.QueryConfig);
      },
      on: (event, listener) => client.on(event as 'error', listener),
      off: (event, listener) => client.off(event as 'error', listener),
      release: (destroy) => client.release(destroy),
    };
  }

  private async explain(
    client: pg.PoolClient,
    text: string,
    values: unknown[],
    isInTransaction: boolean,
  ): Promise<void> {
    await client.query(isInTransaction ? 'savepoint explained' : 'begin');
    const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: Plan }] }>(
      `explain (analyze, timing off, format json) ${text}`,
      values,
    );
    await client.query(isInTransaction ? 'rollback to explained' : 'rollback');
    this.examined.push(examined(rows[0]!['QUERY PLAN'][0].Plan));
  }
}

const COUNT = 3_000;
const WINDOW = 500;

describe('plans of a server that has analyzed the tables while they were empty', () => {
  let schema: TestSchema;
  let pool: pg.Pool;
  let explaining: ExplainingPool;
  let store: PostgresStreamStore;

  beforeEach(async () => {
    schema = openSchema();
    pool = new pg.Pool({ connectionString: schema.url });
    explaining = new ExplainingPool(pool);
    store = schema.store({ pool: explaining });
    await store.open();
    await register(store, 'a', 'b');
    // Its statistics stay as they are: the server must not analyze again while the test runs.
    for (const table of ['message', 'done', 'claim', 'dedupe', 'kept_message']) {
      await schema.query(`alter table minibatch.${table} set (autovacuum_enabled = false)`);
      await schema.query(`analyze minibatch.${table}`);
    }
    const append = (from: number) =>
      store.append(numbers(WINDOW).map(({ data }, n) => message(data, { dedupeId: `${from + n}` })));
    for (let from = 0; from < COUNT; from += WINDOW) await append(from);
  });
  afterEach(async () => {
    await store.close();
    await pool.end();
    await schema.dispose();
  });

  const drain = async (group: string, keep: boolean) => {
    const lease = await hold(store, key(group), group);
    for (let seq = 1; ; seq += 1) {
      const { messages } = await store.fetch(key(group), undefined, { messages: WINDOW, bytes: 1e9 });
      if (messages.length === 0) return;
      const scanned = await store.scan(key(group), undefined, undefined, WINDOW);
      expect(await store.load(key(group), scanned)).toHaveLength(messages.length);
      await finish(store, lease, seq, messages, { keep });
    }
  };

  it.each([false, true])('examine each message and each mark once for two groups; kept: %s', async (keep) => {
    explaining.explains = true;
    await drain('a', keep);
    await drain('b', keep);
    await store.sweep(STREAM, {});
    expect(await store.stats([STREAM])).toMatchObject([{ buffered: 0 }]);
    expect(explaining.examined.length).toBeGreaterThan(0);
    // A read from the beginning passes all that the group has marked.
    expect(Math.max(...explaining.examined)).toBeLessThanOrEqual(2 * COUNT);
  });

  it('examine each mark once when a group is removed', async () => {
    await drain('a', false);
    explaining.explains = true;
    await store.removeGroup(STREAM, 'b');
    expect(await store.stats([STREAM])).toMatchObject([{ buffered: 0 }]);
    expect(explaining.examined.length).toBeGreaterThan(0);
    expect(Math.max(...explaining.examined)).toBeLessThanOrEqual(2 * COUNT);
  });
});
