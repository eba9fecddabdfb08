import knexFactory from 'knex';
import pg from 'pg';
import { DataSource } from 'typeorm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { message, ns, numbers, read, register, STREAM } from '../../testing/store-contract/fixtures.js';
import type { PostgresStreamStore } from './postgres.store.js';
import { drizzleSession, knexSession, type PostgresSession, prismaSession } from './session.js';

/** A transaction of the application. */
interface Transaction {
  readonly session: PostgresSession;
  end(how: 'commit' | 'rollback'): Promise<void>;
}

const SESSIONS: Readonly<Record<string, (url: string) => Promise<Transaction>>> = {
  async pg(url) {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query('begin');
    return {
      session: client,
      async end(how) {
        await client.query(how);
        await client.end();
      },
    };
  },
  async TypeORM(url) {
    const source = await new DataSource({ type: 'postgres', url }).initialize();
    const runner = source.createQueryRunner();
    await runner.startTransaction();
    return {
      session: runner,
      async end(how) {
        await (how === 'commit' ? runner.commitTransaction() : runner.rollbackTransaction());
        await runner.release();
        await source.destroy();
      },
    };
  },
  async Knex(url) {
    const knex = knexFactory({ client: 'pg', connection: url });
    const transaction = await knex.transaction();
    return {
      session: knexSession(transaction),
      async end(how) {
        await transaction[how]();
        await knex.destroy();
      },
    };
  },
  /** Prisma's client is generated code: this has the one method that is needed, on the real server. */
  async Prisma(url) {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query('begin');
    return {
      session: prismaSession({
        $queryRawUnsafe: async (text, ...values) => (await client.query<object>(text, values)).rows,
      }),
      async end(how) {
        await client.query(how);
        await client.end();
      },
    };
  },
  /** In the place of drizzle-orm: what `drizzleSession` calls, on the real server. It wraps errors as Drizzle does. */
  async Drizzle(url) {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query('begin');
    type Chunk = { readonly text: string } | { readonly value: unknown };
    const sql = {
      raw: (text: string): Chunk => ({ text }),
      param: (value: unknown): Chunk => ({ value }),
      join: (chunks: readonly Chunk[]) => chunks,
    };
    const execute = async (chunks: readonly Chunk[]) => {
      const values: unknown[] = [];
      const texts = chunks.map((chunk) => ('text' in chunk ? chunk.text : `$${values.push(chunk.value)}`));
      return client.query(texts.join(''), values).catch((cause: unknown) => {
        throw new Error('Failed query', { cause });
      });
    };
    const session = drizzleSession({ execute }, sql);
    return {
      session: {
        query: (text, values) =>
          session.query(text, values).catch((error: Error) => {
            throw text.includes('nothing') ? error.cause : error;
          }),
      },
      async end(how) {
        await client.query(how);
        await client.end();
      },
    };
  },
};

describe.each(Object.entries(SESSIONS))('append in a transaction of %s', (_, begin) => {
  let schema: TestSchema;
  let store: PostgresStreamStore;

  beforeEach(async () => {
    schema = openSchema();
    store = schema.store();
    await store.open();
    await register(store, 'default');
    await store.append([message({ n: 'first' }, { dedupeId: 'seen' })]);
  });
  afterEach(async () => {
    await store.close();
    await schema.dispose();
  });

  const MESSAGES = [
    ...numbers(3),
    message({ n: 'again' }, { dedupeId: 'seen' }),
    message({ n: 3 }, { dedupeId: 'new' }),
  ];
  const CHECKPOINTS = [{ stream: STREAM, source: 's', position: { at: 5 }, from: 0, to: 5 }];

  it('is seen when it commits, with its positions', async () => {
    const { session, end } = await begin(schema.url);
    const outcomes = await store.append(MESSAGES, { session, checkpoints: CHECKPOINTS });
    expect(outcomes.map(({ status }) => status)).toEqual(['stored', 'stored', 'stored', 'duplicate', 'stored']);
    expect(ns(await read(store))).toEqual(['first']);
    expect(await store.readCheckpoint(STREAM, 's')).toBeUndefined();
    await end('commit');
    expect(ns(await read(store))).toEqual(['first', 0, 1, 2, 3]);
    expect(await store.readCheckpoint(STREAM, 's')).toEqual({ at: 5 });
    const ids = outcomes.flatMap((outcome) => (outcome.status === 'stored' ? outcome.id : []));
    expect((await read(store)).slice(1).map(({ id }) => id)).toEqual(ids);
  });

  it('never was if it is rolled back', async () => {
    const { session, end } = await begin(schema.url);
    await store.append(MESSAGES, { session, checkpoints: CHECKPOINTS });
    await end('rollback');
    expect(ns(await read(store))).toEqual(['first']);
    expect(await store.readCheckpoint(STREAM, 's')).toBeUndefined();
    expect(await store.append([message({ n: 'new' }, { dedupeId: 'new' })])).toMatchObject([{ status: 'stored' }]);
  });

  it('wakes consumers of other processes when it commits', async () => {
    const other = schema.store();
    await other.open();
    const end = new AbortController();
    const wakes: string[] = [];
    let started = () => undefined as void;
    const listening = new Promise<void>((resolve) => (started = resolve));
    let woken = () => undefined as void;
    const watching = other.watch(
      ['orders'],
      {
        wake(stream) {
          wakes.push(stream);
          woken();
        },
        started,
        failed: expect.unreachable,
      },
      end.signal,
    );
    await listening;
    wakes.length = 0;
    const transaction = await begin(schema.url);
    await store.append(numbers(1, { stream: 'orders' }), { session: transaction.session });
    expect(wakes).toEqual([]);
    const next = new Promise<void>((resolve) => (woken = resolve));
    await transaction.end('commit');
    await next;
    expect(wakes).toEqual(['orders']);
    end.abort();
    await watching;
    await other.close();
  });

  it('fails with what the server says, and the application rolls back', async () => {
    const { session, end } = await begin(schema.url);
    await expect(session.query('select 1 from nothing', [])).rejects.toThrow(/nothing/);
    await expect(store.append(numbers(1), { session })).rejects.toMatchObject({
      code: ErrorCode.AppendFailed,
      stored: 'no',
      message: expect.stringContaining('roll it back') as string,
    });
    await end('rollback');
    expect(ns(await read(store))).toEqual(['first']);
  });
});

describe('a session', () => {
  const REFUSED = { code: ErrorCode.InvalidOptions, stored: 'no', details: { option: 'session' } };

  it('has to be in a transaction', async () => {
    const schema = openSchema();
    const store = schema.store();
    await store.open();
    await register(store, 'default');
    const pool = new pg.Pool({ connectionString: schema.url });
    const client = await pool.connect();
    const source = await new DataSource({ type: 'postgres', url: schema.url }).initialize();
    const knex = knexFactory({ client: 'pg', connection: schema.url });
    const checkpoints = [{ stream: STREAM, source: 's', position: 5, from: 0, to: 0 }];
    const runner = source.createQueryRunner();
    for (const session of [pool, client, source, runner, knexSession(knex)]) {
      const refused = { ...REFUSED, message: expect.stringContaining('not in a transaction') as string };
      await expect(store.append(numbers(1), { session })).rejects.toMatchObject(refused);
      await expect(store.append([], { session, checkpoints })).rejects.toMatchObject(refused);
    }
    expect(await read(store)).toEqual([]);
    expect(await store.readCheckpoint(STREAM, 's')).toBeUndefined();
    // A client that was in one before is not in one for that reason.
    await client.query('begin');
    await store.append(numbers(1), { session: client });
    await client.query('commit');
    await expect(store.append(numbers(1), { session: client })).rejects.toMatchObject(REFUSED);
    expect(await read(store)).toHaveLength(1);
    client.release();
    await runner.release();
    await Promise.all([pool.end(), source.destroy(), knex.destroy()]);
    await store.close();
    await schema.dispose();
  });

  it('has to be on the database of the store', async () => {
    const schema = openSchema();
    const name = `db_${schema.schema}`;
    await schema.query(`create database ${name}`);
    const url = schema.url.replace(/postgres$/, name);
    const store = schema.store();
    const elsewhere = schema.store({ connectionString: url });
    for (const each of [store, elsewhere]) {
      await each.open();
      await register(each, 'default');
    }
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query('begin');
    await expect(store.append(numbers(1), { session: client })).rejects.toMatchObject({
      ...REFUSED,
      message: expect.stringContaining('another server or database') as string,
    });
    await client.query('commit');
    expect([...(await read(store)), ...(await read(elsewhere))]).toEqual([]);
    await client.end();
    await Promise.all([store.close(), elsewhere.close()]);
    await schema.query(`drop database ${name}`);
    await schema.dispose();
  });

  it('has to have a query method', async () => {
    const schema = openSchema();
    const store = schema.store();
    await store.open();
    for (const session of [{}, 'transaction', null]) {
      await expect(store.append(numbers(1), { session })).rejects.toMatchObject({
        code: ErrorCode.InvalidOptions,
        message: expect.stringContaining('knexSession') as string,
      });
    }
    await store.close();
    await schema.dispose();
  });
});
