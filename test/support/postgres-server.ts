import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { MissingServerError } from '../../scripts/servers/missing.mjs';
import { type PostgresStoreOptions, PostgresStreamStore } from '../../libs/minibatch/src/storage/postgres/index.js';

/** The URL of the run's PostgreSQL. */
export function postgresUrl(): string {
  const url = inject('postgresUrl');
  if (url !== '') return url;
  const missing = inject('postgresMissing');
  if (missing !== '') throw new MissingServerError('PostgreSQL', missing);
  throw new Error('No PostgreSQL for this test: see the first lines of the run for what was tried');
}

/** A schema of its own for one test; its tables are made by the first store that opens. */
export interface TestSchema {
  readonly url: string;
  readonly schema: string;
  /** A store on it, not opened. */
  store(options?: PostgresStoreOptions): PostgresStreamStore;
  /** Runs a statement in which `minibatch.` stands for the schema. */
  query<R extends object>(text: string, values?: readonly unknown[]): Promise<R[]>;
  dispose(): Promise<void>;
}

export function openSchema(url: string = postgresUrl()): TestSchema {
  const schema = `test_${randomUUID().replaceAll('-', '')}`;
  const query = async <R extends object>(text: string, values: readonly unknown[] = []): Promise<R[]> => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      const { rows } = await client.query<R>(text.replaceAll('minibatch.', `${schema}.`), [...values]);
      return rows;
    } finally {
      await client.end();
    }
  };
  return {
    url,
    schema,
    store: (options = {}) =>
      new PostgresStreamStore({ ...(!options.pool && { connectionString: url }), schema, ...options }),
    query,
    dispose: async () => void (await query(`set client_min_messages = error; drop schema if exists ${schema} cascade`)),
  };
}
