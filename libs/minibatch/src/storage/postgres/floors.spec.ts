import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import type { ConsumerKey } from '../stream-store.interface.js';
import { Database } from './database.js';
import { Floors } from './floors.js';
import { numberOf } from './ids.js';
import { Reads } from './reads.js';
import type { Statement } from './sql.js';
import type { PostgresStreamStore } from './postgres.store.js';
import {
  ALL,
  finish,
  hold,
  key,
  message,
  numbers,
  read,
  register,
  STREAM,
} from '../../testing/store-contract/fixtures.js';

const OPTIONS = { prepared: true, patience: 1_000 };
const COUNT = 5_000;

/** Counts the pages that reads look at. */
class PageCount extends Database {
  pages = 0;

  constructor(pool: pg.Pool, schema: string) {
    super(pool, { ...OPTIONS, schema });
  }

  override async rows<R extends readonly unknown[]>(_: string, statement: Statement, values: readonly unknown[]) {
    const { rows } = await (this.pool as pg.Pool).query<Explained>(
      `explain (analyze, buffers, format json) ${this.textOf(statement)}`,
      [...values],
    );
    const plan = rows[0]!['QUERY PLAN'][0].Plan;
    this.pages += plan['Shared Hit Blocks'] + plan['Shared Read Blocks'];
    return [] as R[];
  }
}

interface Explained {
  readonly 'QUERY PLAN': readonly [{ readonly Plan: Record<'Shared Hit Blocks' | 'Shared Read Blocks', number> }];
}

async function pagesOfFetch(database: PageCount, floors: Floors, consumer: ConsumerKey): Promise<number> {
  await new Reads(database, floors).fetch(consumer, undefined, ALL);
  database.close();
  return database.pages;
}

describe('the first id of a partition that has to be read', () => {
  let schema: TestSchema;
  let store: PostgresStreamStore;
  let pool: pg.Pool;
  let floors: Floors;

  beforeEach(async () => {
    schema = openSchema();
    store = schema.store();
    await store.open();
    await register(store, 'default');
    // What the server knows of the table decides how it reads it, so it must not vacuum or analyze it while a test runs.
    await schema.query('alter table minibatch.message set (autovacuum_enabled = false)');
    pool = new pg.Pool({ connectionString: schema.url });
    floors = new Floors(new Database(pool, { ...OPTIONS, schema: schema.schema }));
  });
  afterEach(async () => {
    await pool.end();
    await store.close();
    await schema.dispose();
  });

  const look = async (): Promise<number> => {
    floors.readFrom(STREAM, 0);
    await floors.look();
    // What is not on disk yet is not safe; a commit brings it there.
    await store.append([message({}, { stream: 'other' })]);
    return floors.of(STREAM, 0);
  };
  /** Other tests have transactions on the server, for which the floor waits, too. */
  const risesTo = (number: number) =>
    vi.waitUntil(async () => (await look()) >= number, { timeout: 50_000, interval: 10 });

  it('is behind what has left, and before what is there', async () => {
    await store.append(numbers(20));
    const lease = await hold(store);
    const messages = await read(store);
    await finish(store, lease, 1, messages.slice(0, 12));
    await risesTo(numberOf(messages[12]!.id) - 1);
    expect(await look()).toBe(numberOf(messages[12]!.id) - 1);
    await finish(store, lease, 2, messages.slice(12));
    await risesTo(numberOf(messages.at(-1)!.id));
    await store.append([message({ n: 'new' })]);
    expect((await read(store)).map(({ data }) => data)).toEqual([{ n: 'new' }]);
    await look();
    expect(floors.of(STREAM, 0)).toBeLessThan(numberOf((await read(store))[0]!.id));
  });

  it('is not raised above the number of a message whose transaction is open', async () => {
    const client = await pool.connect();
    await client.query('begin');
    const [late] = await store.append([message({ n: 'late' })], { session: client });
    const id = late?.status === 'stored' ? late.id : '';
    await store.append(numbers(5));
    await finish(store, await hold(store), 1, await read(store));
    for (let n = 0; n < 6; n += 1) expect(await look()).toBeLessThan(numberOf(id));
    await client.query('commit');
    client.release();
    await risesTo(numberOf(id) - 1);
    expect(await look()).toBe(numberOf(id) - 1);
    expect((await read(store)).map(({ data }) => data)).toEqual([{ n: 'late' }]);
  });

  it('is raised although another transaction has an old snapshot open', async () => {
    const client = await pool.connect();
    await client.query('begin isolation level repeatable read; select 1');
    await store.append(numbers(5));
    const messages = await read(store);
    await finish(store, await hold(store), 1, messages);
    await risesTo(numberOf(messages.at(-1)!.id));
    await client.query('rollback');
    client.release();
  });

  it('lets a read that has caught up touch a few pages, whatever has come and gone since an old snapshot', async () => {
    const client = await pool.connect();
    try {
      await client.query('begin isolation level repeatable read; select 1');
      await store.append(numbers(COUNT));
      const messages = await read(store);
      await finish(store, await hold(store), 1, messages);
      const pages = (from: Floors) => pagesOfFetch(new PageCount(pool, schema.schema), from, key());
      // The server cannot clean up: a read from the very start looks at every message that has been there.
      const all = await pages(new Floors(new Database(pool, { ...OPTIONS, schema: schema.schema })));
      await risesTo(numberOf(messages.at(-1)!.id));
      expect([all, await pages(floors)]).toEqual([expect.toSatisfy((n) => n > 50), expect.toSatisfy((n) => n < 15)]);
    } finally {
      await client.query('rollback');
      client.release();
    }
  });

  it('is forgotten when a connection breaks: the server may have lost numbers that it had given', async () => {
    await store.append(numbers(5));
    await finish(store, await hold(store), 1, await read(store));
    await risesTo(1);
    const client = await pool.connect();
    pool.emit('error', new Error('terminating connection'), client);
    client.release();
    expect(floors.of(STREAM, 0)).toBe(0);
  });
});
