import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { hold, key, register, STREAM } from '../../testing/store-contract/fixtures.js';
import type { PostgresStreamStore } from './postgres.store.js';

describe('groups on PostgreSQL', () => {
  let schema: TestSchema;
  let pool: pg.Pool;
  let store: PostgresStreamStore;
  let statements: number;
  beforeEach(async () => {
    schema = openSchema();
    pool = new pg.Pool({ connectionString: schema.url });
    pool.on('connect', (client) => {
      const query = client.query.bind(client) as (...args: unknown[]) => unknown;
      client.query = ((...args: unknown[]) => {
        statements += 1;
        return query(...args);
      }) as typeof client.query;
    });
    store = schema.store({ pool, notify: false });
    statements = 0;
    await store.open();
  });
  afterEach(async () => {
    await store.close();
    await pool.end();
    await schema.dispose();
  });

  it('are registered by a look and one statement: a process that starts with many consumers does that for each', async () => {
    await store.ensureStream(STREAM, { partitions: 3 });
    statements = 0;
    await store.registerGroup(key('a'));
    expect(statements).toBe(2);
    statements = 0;
    await store.registerGroup(key('a'));
    expect(statements).toBe(1);
    for (const partition of [0, 1, 2]) await hold(store, key('a', STREAM, partition));
  });

  it('that are registered at the same time are all there, each once', async () => {
    await store.ensureStream(STREAM);
    await Promise.all(['a', 'b', 'a', 'c', 'b', 'a'].map((group) => store.registerGroup(key(group))));
    expect((await store.describeStream(STREAM))?.groups.toSorted()).toEqual(['a', 'b', 'c']);
    await register(store, 'a');
    for (const group of ['a', 'b', 'c']) await hold(store, key(group), group);
  });
});
