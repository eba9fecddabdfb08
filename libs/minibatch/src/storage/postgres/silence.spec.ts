import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type FrozenProxy, startFrozenProxy } from '../../../../../test/support/frozen-proxy.js';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { ns, numbers, read, register, STREAM } from '../../testing/store-contract/fixtures.js';
import type { PostgresStreamStore } from './postgres.store.js';

const PATIENCE = 1_000;
const SOON = { timeout: 30_000, interval: 10 };

describe.each(['its own', 'given'])('the PostgreSQL store, whose pool is %s', (whose) => {
  let schema: TestSchema;
  let proxy: FrozenProxy;
  let pool: pg.Pool | undefined;
  let store: PostgresStreamStore;

  beforeEach(async () => {
    schema = openSchema();
    proxy = await startFrozenProxy(Number(new URL(schema.url).port));
    const url = new URL(schema.url);
    url.port = String(proxy.port);
    const connectionString = url.href;
    pool = whose === 'given' ? new pg.Pool({ connectionString }) : undefined;
    pool?.on('error', () => undefined);
    store = schema.store({ ...(pool ? { pool } : { connectionString }), patience: PATIENCE, notify: false });
    await store.open();
    await register(store, 'default');
    await store.append(numbers(1));
  });
  afterEach(async () => {
    proxy.thaw();
    await store.close();
    await pool?.end();
    proxy.close();
    await schema.dispose();
  });

  it('gives up reads and writes of a server that answers nothing any more, and goes on when it is back', async () => {
    proxy.freeze();
    const failed = { code: ErrorCode.StoreUnavailable, details: { outOfReach: true } };
    const [append, stats, group] = await Promise.allSettled([
      store.append(numbers(1)),
      store.stats([STREAM]),
      store.registerGroup({ stream: STREAM, group: 'other' }),
    ]);
    expect(stats).toMatchObject({ status: 'rejected', reason: failed });
    expect(group).toMatchObject({ status: 'rejected', reason: failed });
    expect(append).toMatchObject({ value: [{ status: 'failed', storeAway: true }] });
    proxy.thaw();
    expect(await store.append(numbers(1))).toMatchObject([{ status: 'stored' }]);
  });

  it('gives up connections that the network has forgotten, although the server is there', async () => {
    proxy.forget();
    const [append] = await store.append(numbers(1));
    expect(append?.status === 'stored' || (append?.status === 'failed' && append.storeAway)).toBe(true);
    // Others of the pool may have been forgotten, too.
    await vi.waitUntil(async () => (await store.append(numbers(1)))[0]?.status === 'stored', SOON);
    expect(ns(await read(store))).not.toEqual([]);
  });

  it('waits for a statement that takes long, or for a lock, and does not send it again', async () => {
    const other = new pg.Client({ connectionString: schema.url });
    await other.connect();
    await other.query(`begin; lock table ${schema.schema}.message`);
    const before = proxy.opened;
    const appending = store.append(numbers(1));
    // It has asked the server twice, on connections of its own.
    await vi.waitUntil(() => proxy.opened >= before + 2, SOON);
    await other.query('commit');
    await other.end();
    expect(await appending).toMatchObject([{ status: 'stored' }]);
    expect(await read(store)).toHaveLength(2);
  });
});
