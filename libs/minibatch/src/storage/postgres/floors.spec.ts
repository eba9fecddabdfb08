import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { Database } from './database.js';
import { Floors } from './floors.js';
import { numberOf } from './ids.js';
import type { PostgresStreamStore } from './postgres.store.js';
import { finish, hold, message, numbers, read, register, STREAM } from '../../testing/store-contract/fixtures.js';

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
    pool = new pg.Pool({ connectionString: schema.url });
    floors = new Floors(new Database(pool, { schema: schema.schema, prepared: true, patience: 1_000 }));
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
