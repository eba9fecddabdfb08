import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { message, numbers, read, register, STREAM } from '../../testing/store-contract/fixtures.js';
import type { PostgresStreamStore } from './postgres.store.js';
import { asStoreError, isConflict, isOutOfReach, isRefusal } from './store-errors.js';

const SOON = { timeout: 30_000, interval: 10 };

function serverError(code: string): Error {
  return Object.assign(new Error(`error ${code}`), { severity: 'ERROR', code });
}

describe('an error of PostgreSQL', () => {
  it.each([
    ['42501', ErrorCode.StoreDenied, /grant it the use/],
    ['28P01', ErrorCode.StoreDenied, /user and the password/],
    ['53100', ErrorCode.StoreUnavailable, /disk of the server is full/],
    ['25006', ErrorCode.StoreUnavailable, /connect to the primary/],
    ['42P01', ErrorCode.StoreRefused, /migrate: true/],
    ['3F000', ErrorCode.StoreRefused, /migrate: true/],
    ['42P07', ErrorCode.StoreRefused, /schema of its own/],
    ['42703', ErrorCode.StoreRefused, /schema of its own/],
    ['3D000', ErrorCode.StoreRefused, /Create the database/],
    ['22P05', ErrorCode.StoreRefused, /encoding 'UTF8'/],
    ['22021', ErrorCode.StoreRefused, /encoding 'UTF8'/],
    ['26000', ErrorCode.StoreRefused, /prepared: false/],
    ['42P05', ErrorCode.StoreRefused, /prepared: false/],
    ['0A000', ErrorCode.StoreRefused, /would fail again/],
    ['25P02', ErrorCode.StoreUnavailable, /aborted its transaction/],
    ['55P03', ErrorCode.StoreUnavailable, /lock_timeout/],
    ['57014', ErrorCode.StoreUnavailable, /statement_timeout/],
    ['25P03', ErrorCode.StoreUnavailable, /running and reachable/],
    ['57P01', ErrorCode.StoreUnavailable, /running and reachable/],
    ['XX000', ErrorCode.StoreUnavailable, /See the cause/],
  ])('%s has a code and says what to do', (state, code, advice) => {
    const error = asStoreError('read messages', serverError(state));
    expect(error).toMatchObject({ code, details: { operation: 'read messages', sqlState: state } });
    expect(error.message).toMatch(/^PostgreSQL could not read messages: /);
    expect(error.message).toMatch(advice);
  });

  it('says whether the server is away, and whether it has undone the statement', () => {
    for (const state of ['57P01', '57P03', '08006', '53300', '25006'])
      expect(isOutOfReach(serverError(state))).toBe(true);
    for (const code of ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND']) {
      expect(isOutOfReach(Object.assign(new Error(code), { code }))).toBe(true);
    }
    expect(isOutOfReach(new AggregateError([Object.assign(new Error('x'), { code: 'ECONNREFUSED' })]))).toBe(true);
    expect(isOutOfReach(new Error('Connection terminated unexpectedly'))).toBe(true);
    expect(isOutOfReach(new TypeError('undefined is not a function'))).toBe(false);
    expect(isOutOfReach(serverError('23505'))).toBe(false);
    expect(['40001', '40P01', '23505'].map((state) => isConflict(serverError(state)))).toEqual([true, true, false]);
    expect(['23505', '57P01', '08006'].map((state) => isRefusal(serverError(state)))).toEqual([true, false, false]);
    expect(isRefusal(new Error('socket hang up'))).toBe(false);
  });
});

describe('a store on a PostgreSQL that does not do what it should', () => {
  let schema: TestSchema;
  let store: PostgresStreamStore;
  beforeEach(async () => {
    schema = openSchema();
    store = schema.store();
    await store.open();
    await register(store, 'default');
    await store.append(numbers(3));
  });
  afterEach(async () => {
    await store.close();
    await schema.dispose();
  });

  it('calls again when its connections were cut', async () => {
    for (let n = 0; n < 3; n += 1) {
      await schema.query(`select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'nestjs-minibatch' and query like '%${schema.schema}%'`);
      expect(await read(store)).toHaveLength(3);
    }
  });

  it('waits for what another transaction has locked, and runs again what a deadlock has undone', async () => {
    const client = new pg.Client({ connectionString: schema.url });
    await client.connect();
    await client.query(`begin; set deadlock_timeout = '1h'`);
    await client.query(`select 1 from ${schema.schema}.consumer where grp = 'default' for update`);
    // The group's removal has the row of the stream and waits for the consumer.
    const removing = store.removeGroup(STREAM, 'default');
    await vi.waitUntil(async () => {
      const rows = await schema.query(
        `select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%${schema.schema}%'`,
      );
      return rows.length > 0;
    }, SOON);
    // Now each waits for the other; only the store's side looks for deadlocks, so its transaction is undone.
    await client.query(`select 1 from ${schema.schema}.stream for update`);
    await client.query('commit');
    await removing;
    expect((await store.describeStream(STREAM))?.groups).toEqual([]);
    await client.end();
  });

  it('says that the server accepts no writes', async () => {
    const pool = new pg.Pool({ connectionString: schema.url, options: '-c default_transaction_read_only=on' });
    const standby = schema.store({ pool, patience: 0 });
    await standby.open();
    expect(await standby.describeStream(STREAM)).toMatchObject({ name: STREAM });
    await expect(standby.updateStream(STREAM, { paused: true })).rejects.toMatchObject({
      code: ErrorCode.StoreUnavailable,
      message: expect.stringContaining('connect to the primary') as string,
      details: { outOfReach: true },
    });
    await standby.close();
    // The application's own pool is not closed.
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
    await pool.end();
  });

  it('says that the server is not there, after its patience', async () => {
    const away = schema.store({ connectionString: 'postgres://u:secret@127.0.0.1:1/db', patience: 10 });
    const error: unknown = await away.open().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: ErrorCode.StoreUnavailable, details: { outOfReach: true } });
    expect(String(error)).not.toContain('secret');
    await expect(away.describeStream(STREAM)).rejects.toMatchObject({ code: ErrorCode.StoreUnavailable });
  });

  it('tells those that listen when their connection breaks, and listens again', async () => {
    const end = new AbortController();
    const seen: string[] = [];
    const other = schema.store();
    await other.open();
    const watching = other.watch(
      ['orders'],
      { wake: () => seen.push('wake'), started: () => seen.push('started'), failed: () => seen.push('failed') },
      end.signal,
    );
    await vi.waitUntil(() => seen.includes('started'), SOON);
    seen.length = 0;
    await schema.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen "minibatch_${schema.schema}"'`,
    );
    await vi.waitUntil(() => seen.includes('started'), SOON);
    expect(seen).toEqual(['failed', 'started', 'wake']);
    seen.length = 0;
    await store.append([message({}, { stream: 'orders' })]);
    await vi.waitUntil(() => seen.includes('wake'), SOON);
    end.abort();
    await watching;
    await other.close();
  });
});
