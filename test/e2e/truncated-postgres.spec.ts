import 'reflect-metadata';
import { ErrorCode, MinibatchModule, StreamService } from 'nestjs-minibatch';
import { postgresStore } from 'nestjs-minibatch/postgres';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openSchema } from '../support/postgres-server.js';
import { bootError, closeAll, later, SOON, start } from './support/applications.js';
import { Flights, outlives } from './support/dropped.js';

const TABLES = ['stream', 'consumer', 'message', 'claim', 'done', 'dedupe', 'checkpoint', 'dead_letter', 'state'];

afterEach(closeAll);

describe('a running application on PostgreSQL', () => {
  it.each([
    ['all tables', TABLES, ''],
    ['all tables, and sets the sequences back', TABLES, 'restart identity'],
    ...TABLES.map((table) => [`the table '${table}'`, [table], ''] as const),
  ] as const)('continues when somebody truncates %s', { timeout: 60_000 }, async (_, tables, how) => {
    const { url, schema, query, dispose } = openSchema();
    later(dispose);
    const held = `select owner is not null as held from ${schema}.consumer where grp = 'default'`;
    await outlives({
      imports: [MinibatchModule.forRoot({ leaseTime: 3_000, store: postgresStore({ connectionString: url, schema }) })],
      drop: () => query(`truncate ${tables.map((table) => `${schema}.${table}`).join(', ')} ${how}`),
      isBack: async () => (await query<{ held: boolean }>(held).catch(() => []))[0]?.held,
    });
  });

  it('says what to do if the table of its version was truncated', { timeout: 60_000 }, async () => {
    const { url, schema, query, dispose } = openSchema();
    later(dispose);
    const store = () => postgresStore({ connectionString: url, schema });
    const imports = () => [MinibatchModule.forRoot({ leaseTime: 3_000, store: store() })];
    const first = await start({ imports: imports(), providers: [Flights] });
    await first.get(StreamService, { strict: false }).append('flights', 1);
    await vi.waitUntil(() => first.get(Flights).seen.length === 1, SOON);
    await first.close();
    await query(`truncate ${schema}.schema_version`);
    await expect(bootError({ imports: imports(), providers: [Flights] })).resolves.toMatchObject({
      code: ErrorCode.StoreRefused,
      message: expect.stringContaining('drop the schema, so that the store makes all tables again') as string,
    });
  });
});
