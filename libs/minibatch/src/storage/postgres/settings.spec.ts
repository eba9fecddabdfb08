import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import {
  die,
  finish,
  hold,
  message,
  ns,
  numbers,
  read,
  readAllKept,
  register,
  STREAM,
} from '../../testing/store-contract/fixtures.js';
import type { PostgresStreamStore } from './postgres.store.js';

/** A database of its own, as its owner has made it. */
describe('the PostgreSQL store on a database', () => {
  let main: TestSchema;
  let name: string;
  let url: string;
  let stores: PostgresStreamStore[];
  beforeEach(() => {
    main = openSchema();
    name = `db_${randomUUID().replaceAll('-', '')}`;
    url = main.url.replace(/postgres$/, name);
    stores = [];
  });
  afterEach(async () => {
    for (const store of stores) await store.close();
    await main.query(`drop database if exists ${name} with (force)`);
  });

  const create = async (...settings: readonly string[]) => {
    await main.query(`create database ${name} template template0 encoding 'UTF8'`);
    for (const setting of settings) await main.query(`alter database ${name} set ${setting}`);
  };
  const storeOn = (options: object = {}) => {
    const store = openSchema(url).store({ schema: 'minibatch', ...options });
    stores.push(store);
    return store;
  };
  const run = async (sql: string) => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(sql);
    await client.end();
  };
  /** Everything that a consumer does. */
  const works = async (store: PostgresStreamStore) => {
    const data = { text: String.raw`a'b"\x €😀`, bytes: Buffer.from([0, 92, 255]), number: -0.1 };
    await store.open();
    await register(store, 'default', 'other');
    await store.append([message(data, { dedupeId: 'x', key: 'ü😀' }), ...numbers(3)]);
    expect(await store.append([message(data, { dedupeId: 'x' })])).toEqual([{ status: 'duplicate' }]);
    const lease = await hold(store);
    const messages = await read(store);
    expect(messages[0]?.read()).toMatchObject({ data, key: 'ü😀' });
    await finish(store, lease, 1, messages.slice(0, 2), { keep: true, groups: ['default', 'other'] });
    await die(store, lease, 2, messages.slice(2, 3));
    expect(await store.redrive(STREAM, {})).toBe(1);
    expect(ns(await read(store))).toEqual([2, 1]);
    expect(await store.replay(STREAM, 'default', {})).toBe((await readAllKept(store)).length);
    await store.updateStream(STREAM, { clear: true });
    expect(await store.stats([STREAM])).toMatchObject([{ name: STREAM }]);
    await store.sweep(STREAM, { kept: new Date(), tombstones: new Date() });
    await store.dropStream(STREAM);
  };

  it.each([
    ["DateStyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'", "timezone = 'Asia/Kathmandu'"],
    ['standard_conforming_strings = off', 'backslash_quote = on', 'transform_null_equals = on'],
    ["client_encoding = 'LATIN1'", 'bytea_output = escape', 'extra_float_digits = -15'],
    ["default_transaction_isolation = 'serializable'", 'default_transaction_deferrable = on'],
    ["default_transaction_isolation = 'repeatable read'", 'quote_all_identifiers = on'],
    ["search_path = 'pg_temp'", 'enable_indexscan = off', 'enable_bitmapscan = off'],
    ['plan_cache_mode = force_generic_plan', 'row_security = off', 'xmlbinary = hex', 'array_nulls = on'],
    ['idle_session_timeout = 250', 'idle_in_transaction_session_timeout = 10000'],
    ['lock_timeout = 10000', 'statement_timeout = 20000', 'check_function_bodies = off'],
  ])('works with %s, %s', async (...settings) => {
    await create(...settings.filter((each) => each !== undefined));
    await works(storeOn());
  });

  it('works with what an application has told the driver to do for all', async () => {
    await create();
    const parsers = [16, 17, 20, 21, 23, 25, 114, 701, 3802].map((oid) => [oid, pg.types.getTypeParser(oid)] as const);
    pg.defaults.binary = true;
    pg.defaults.parseInt8 = true;
    for (const [oid] of parsers) pg.types.setTypeParser(oid, () => 'spoiled');
    try {
      await works(storeOn());
    } finally {
      pg.defaults.binary = false;
      pg.defaults.parseInt8 = false;
      for (const [oid, parser] of parsers) pg.types.setTypeParser(oid, parser as (text: string) => unknown);
    }
  });

  it('refuses one that is not there', async () => {
    const refused = {
      code: ErrorCode.StoreRefused,
      message: expect.stringContaining('Create the database') as string,
    };
    const store = storeOn();
    await expect(store.open()).rejects.toMatchObject(refused);
    await create();
    await works(store);
  });

  it('refuses what its encoding cannot hold', async () => {
    await main.query(`create database ${name} template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'`);
    const store = storeOn();
    await store.open();
    await register(store, 'default');
    await store.append([message({ text: '€😀' })]);
    expect((await read(store))[0]?.read().data).toEqual({ text: '€😀' });
    expect(await store.append([message({}, { stream: '€😀' })])).toMatchObject([
      { status: 'failed', error: { code: ErrorCode.StoreRefused, stored: 'no' } },
    ]);
    await expect(store.ensureStream('€😀')).rejects.toMatchObject({
      code: ErrorCode.StoreRefused,
      message: expect.stringContaining("encoding 'UTF8'") as string,
    });
  });

  it.each(['create table minibatch.message (x int)', 'create table minibatch.schema_version (id text)'])(
    'refuses a schema with tables of somebody else: %s',
    async (sql) => {
      await create();
      await run(`create schema minibatch; ${sql}`);
      await expect(storeOn().open()).rejects.toMatchObject({
        code: ErrorCode.StoreRefused,
        message: expect.stringContaining('schema of its own') as string,
      });
    },
  );

  it('makes its tables again when somebody drops them while it runs', async () => {
    await create();
    const store = storeOn();
    await works(store);
    const drop = () => run('drop schema minibatch cascade');
    await drop();
    await Promise.all([store.listStreams(), store.describeStream(STREAM), works(store)]);
    await drop();
    expect(await store.append(numbers(2))).toMatchObject([{ status: 'stored' }, { status: 'stored' }]);
    const careful = storeOn({ migrate: false });
    await careful.open();
    await drop();
    await expect(careful.listStreams()).rejects.toMatchObject({ code: ErrorCode.SchemaMissing });
    expect(await careful.append(numbers(1))).toMatchObject([
      { status: 'failed', error: { code: ErrorCode.SchemaMissing, stored: 'no' } },
    ]);
  });

  it('says what to do if single tables are missing', async () => {
    await create();
    const store = storeOn();
    await works(store);
    await run('drop table minibatch.claim');
    await expect(store.stats()).rejects.toMatchObject({
      code: ErrorCode.StoreRefused,
      message: expect.stringContaining('drop the schema') as string,
    });
  });

  it('says that its pool was ended', async () => {
    await create();
    const pool = new pg.Pool({ connectionString: url });
    const store = storeOn({ pool });
    await works(store);
    await pool.end();
    await expect(store.listStreams()).rejects.toMatchObject({
      code: ErrorCode.StoreRefused,
      message: expect.stringContaining('ended the pool') as string,
    });
    expect(await store.append(numbers(1))).toMatchObject([{ status: 'failed', error: { stored: 'no' } }]);
  });

  it.each([
    ['lock_timeout = 20', /lock_timeout/],
    ['statement_timeout = 200', /statement_timeout/],
  ])('says which setting has ended a statement: %s', async (setting, advice) => {
    await create();
    const store = storeOn();
    await works(store);
    await register(store, 'default');
    await store.close();
    await main.query(`alter database ${name} set ${setting}`);
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query('begin; select 1 from minibatch.stream for update');
    await store.open();
    await expect(store.updateStream(STREAM, { paused: true })).rejects.toMatchObject({
      code: ErrorCode.StoreUnavailable,
      message: expect.stringMatching(advice) as string,
    });
    await client.query('rollback');
    // Neither ends an append that waits for another's transaction.
    await client.query('begin');
    await store.append([message({}, { dedupeId: 'held' })], { session: client });
    const late: Promise<unknown>[] = [];
    await store.append([message({}, { dedupeId: 'held' })], { late: (_, outcome) => late.push(outcome) });
    await client.query('commit');
    expect(await Promise.all(late)).toEqual([{ status: 'duplicate' }]);
    await client.end();
  });

  it('warns of a server that acknowledges from memory', async () => {
    await create('synchronous_commit = off');
    const store = storeOn();
    await store.open();
    expect(store.warnings).toEqual([
      expect.stringMatching(/fsync = off.*lost.*postgresql\.conf/),
      expect.stringMatching(
        new RegExp(`synchronous_commit = off.*lost.*in database "${name}" set synchronous_commit = on`),
      ),
    ]);
  });
});
