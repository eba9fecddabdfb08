import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSchema, type TestSchema } from '../../../../../test/support/postgres-server.js';
import { ErrorCode } from '../../errors/minibatch.error.js';
import {
  append,
  finishWith,
  hold,
  key,
  message,
  read,
  register,
  row,
  STREAM,
  valueOf,
} from '../../testing/store-contract/fixtures.js';
import { CREATE_VERSION, inSchema, migrationsFrom, postgresSchema, SCHEMA_VERSION } from './schema.js';

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

  describe('of the version before rows of state', () => {
    const stream = 'insert into minibatch.stream (name, status, created, groups, removed_fence)';
    const consumer = 'insert into minibatch.consumer (stream, grp, partition, fence, first_fence)';
    beforeEach(async () => {
      const [first] = migrationsFrom(0);
      await schema.query(`create schema ${schema.schema}`);
      await schema.query(
        inSchema(`${CREATE_VERSION} ${first} insert into minibatch.schema_version values (1)`, schema.schema),
      );
      await schema.query(`${stream} values ('${STREAM}', 'open', 0, '{default,other}', 0)`);
      await schema.query(`${consumer} values (1, 'default', 0, 0, 0), (1, 'other', 0, 0, 0)`);
    });

    it.each(['the store', 'the SQL of postgresSchema'])('are changed by %s, with what is in them', async (by) => {
      if (by !== 'the store') {
        await expect(schema.store({ migrate: false }).open()).rejects.toMatchObject({ code: ErrorCode.SchemaMissing });
        await schema.query(postgresSchema({ schema: schema.schema, from: 1 }));
      }
      const store = schema.store({ migrate: by === 'the store' });
      await store.open();
      for (const [n, group] of ['default', 'other'].entries()) {
        await finishWith(store, await hold(store, key(group)), 1, { put: [row('a', n)] });
      }
      for (const [n, group] of ['default', 'other'].entries()) {
        expect((await store.readState(key(group), ['a'])).map(valueOf)).toEqual([row('a', n)]);
      }
      await store.close();
    });

    it('may be written by a process of that version that goes on: it removes, renames and makes groups', async () => {
      const store = schema.store();
      await store.open();
      await finishWith(store, await hold(store), 1, { put: [row('a', 1, new Date(1))] });
      await finishWith(store, await hold(store, key('other')), 1, { put: [row('a', 2)] });
      const rows = async () => (await schema.query('select 1 from minibatch.state')).length;
      // As that version does.
      await schema.query(`delete from minibatch.consumer where grp = 'default'`);
      await schema.query(`update minibatch.consumer set grp = 'renamed' where grp = 'other'`);
      await schema.query(`${consumer} values (1, 'default', 0, 7, 7)`);
      await schema.query(`update minibatch.stream set groups = '{default,renamed}'`);
      const any = { rows: 10, bytes: 1000 };
      expect(await store.listState(key(), undefined, any)).toEqual({ rows: [] });
      expect(await store.dueState(key(), new Date(9), undefined, any)).toEqual([]);
      expect((await store.readState(key('renamed'), ['a'])).map(valueOf)).toEqual([row('a', 2)]);
      expect(await rows()).toBe(2);
      await store.sweep(STREAM, {});
      expect(await rows()).toBe(1);
      await finishWith(store, await hold(store), 1, { put: [row('a', 3)] });
      expect((await store.readState(key(), ['a'])).map(valueOf)).toEqual([row('a', 3)]);
      await store.close();
    });
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
