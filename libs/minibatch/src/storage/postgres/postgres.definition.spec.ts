import { describe, expect, it } from 'vitest';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { postgresStore, type PostgresStoreOptions, PostgresStreamStore } from './index.js';
import { numberOf, packIds, unpackIds } from './ids.js';
import { inSchema, postgresSchema } from './schema.js';

describe('postgresStore', () => {
  it.each([
    [{ schema: '' }, 'schema'],
    [{ schema: 'pg_own' }, 'schema'],
    [{ schema: 'x'.repeat(64) }, 'schema'],
    [{ connectionString: 5 }, 'connectionString'],
    [{ pool: {} }, 'pool'],
    [{ pool: { connect: () => undefined }, connectionString: 'postgres://' }, 'pool'],
    [{ migrate: 'no' }, 'migrate'],
    [{ notify: 1 }, 'notify'],
    [{ prepared: null }, 'prepared'],
    [{ patience: -1 }, 'patience'],
    [{ connectionstring: 'postgres://' }, 'connectionstring'],
  ])('refuses %j', async (options, option) => {
    const given = options as unknown as PostgresStoreOptions;
    const refused = { code: ErrorCode.InvalidOptions, details: { option } };
    await expect((async () => postgresStore(given))()).rejects.toMatchObject(refused);
    const later = postgresStore({ useFactory: () => given });
    await expect(later.useFactory()).rejects.toMatchObject(refused);
  });

  it('makes a store of injected options', async () => {
    const definition = postgresStore({ inject: ['url'], useFactory: (url: string) => ({ connectionString: url }) });
    expect(definition).toMatchObject({ kind: 'postgres', inject: ['url'] });
    expect(await definition.useFactory(...(['postgres://host/db'] as never[]))).toBeInstanceOf(PostgresStreamStore);
    expect(await postgresStore().useFactory()).toBeInstanceOf(PostgresStreamStore);
  });
});

describe('a statement', () => {
  it('is put into the chosen schema', () => {
    expect(inSchema('select id from minibatch.stream', 'a"b')).toBe('select id from "a""b".stream');
    const sql = postgresSchema({ schema: 'own' });
    expect(sql).toContain('create schema if not exists "own";');
    expect(sql).toContain('create table "own".message (');
    expect(sql).not.toMatch(/\bminibatch\b/);
  });
});

describe('ids', () => {
  it('are numbers in hexadecimal of fixed width', () => {
    const ids = ['0000000000000001', '000000000000ffff', '001fffffffffffff'];
    expect(ids.map(numberOf)).toEqual([1, 65_535, Number.MAX_SAFE_INTEGER]);
    expect(unpackIds(packIds(ids))).toEqual(ids);
    expect(['', 'x', '1', '0020000000000000', 'ffffffffffffffff'].map(numberOf)).toEqual([0, 0, 0, 0, 0]);
  });
});
