import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { append, message, read, register, STREAM } from '../../testing/store-contract/fixtures.js';
import { postgresSchema, SCHEMA_VERSION } from './schema.js';

describe('the tables in PostgreSQL', () => {
  let schema: TestSchema;
  beforeEach(() => (schema = openSchema()));
  afterEach(() => schema.dispose());

  it('are made once by several processes that open at the same time', async () => {
    const stores = Array.from({ length: 5 }, () => schema.store());
    await Promise.all(stores.map((store) => store.open()));
    expect(await schema.query('select version from minibatch.schema_version')).toEqual([{ version: SCHEMA_VERSION }]);
    await Promise.all(stores.map((store) => store.ensureStream(STREAM)));
    expect(await stores[0]!.listStreams()).toHaveLength(1);
    await Promise.all(stores.map((store) => store.close()));
  });

  it('are made by the SQL of postgresSchema where the store may not', async () => {
    const store = schema.store({ migrate: false });
    await expect(store.open()).rejects.toMatchObject({
      code: ErrorCode.SchemaMissing,
      message: expect.stringContaining('postgresSchema') as string,
    });
    await schema.query(postgresSchema({ schema: schema.schema }));
    await store.open();
    await register(store, 'default');
    await append(store, message({ n: 1 }));
    expect(await read(store)).toHaveLength(1);
    await store.close();
  });

  it('are refused if a newer version of the package has written them', async () => {
    const first = schema.store();
    await first.open();
    await first.close();
    await schema.query('update minibatch.schema_version set version = version + 1');
    for (const migrate of [true, false]) {
      await expect(schema.store({ migrate }).open()).rejects.toMatchObject({ code: ErrorCode.SchemaTooNew });
    }
  });

  it('keep stores with other schemas apart, whatever the name', async () => {
    const other = schema.store({ schema: `${schema.schema} "Ö'\\x".x` });
    const store = schema.store();
    await Promise.all([other.open(), store.open()]);
    await append(other, message({ n: 1 }));
    expect(await store.listStreams()).toEqual([]);
    expect(await other.listStreams()).toHaveLength(1);
    await Promise.all([other.close(), store.close()]);
    await schema.query(`drop schema "${schema.schema} ""Ö'\\x"".x" cascade`);
  });

  it('may have the index of the guide before a consumer asks for it', async () => {
    const store = schema.store();
    await store.open();
    for (const sql of await guideSql(/^create index/)) await schema.query(sql);
    const found = `select 1 as one from pg_indexes where schemaname = $1 and indexname = 'message_time'`;
    expect(await schema.query(found, [schema.schema])).toHaveLength(1);
    await store.ensureStream(STREAM);
    await store.registerGroup({ stream: STREAM, group: 'default' }, { timeOrder: true });
    expect(await schema.query(found, [schema.schema])).toHaveLength(1);
    await store.close();
  });

  it('can be used by a user who has no other rights than those of the guide', async () => {
    const owner = schema.store();
    await owner.open();
    const user = `user_${schema.schema}`;
    await schema.query(`create role ${user} login`);
    const url = schema.url.replace('postgres@', `${user}@`);
    const store = schema.store({ connectionString: url, migrate: false });
    await expect(store.open()).rejects.toMatchObject({
      code: ErrorCode.StoreDenied,
      message: expect.stringContaining('grant') as string,
    });
    for (const sql of await guideSql(/^grant /)) {
      const own = sql.replaceAll(/\bto app\b/g, `to ${user}`).replaceAll('schema minibatch', `schema ${schema.schema}`);
      await schema.query(own);
    }
    await store.open();
    await register(store, 'default');
    await append(store, message({ n: 1 }, { dedupeId: 'x' }));
    await store.updateStream(STREAM, { clear: true });
    expect(await read(store)).toHaveLength(1);
    await Promise.all([owner.close(), store.close()]);
    await schema.query(`drop owned by ${user}; drop role ${user}`);
  });
});

/** The statements of the guide that begin so. They name the schema `minibatch`, for which `schema.query` puts its own. */
async function guideSql(start: RegExp): Promise<readonly string[]> {
  const page = await readFile(new URL('../../../../../docs/guides/postgres.md', import.meta.url), 'utf8');
  const blocks = [...page.matchAll(/^```sql\n([\s\S]*?)```$/gm)].map(([, block = '']) => block);
  return blocks.filter((block) => start.test(block));
}
