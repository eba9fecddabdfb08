import 'reflect-metadata';
import { MinibatchModule } from 'nestjs-minibatch';
import { postgresStore } from 'nestjs-minibatch/postgres';
import { afterEach, describe, expect, it } from 'vitest';
import { openSchema } from '../support/postgres-server.js';
import { closeAll, later } from './support/applications.js';
import { outlives } from './support/dropped.js';

afterEach(closeAll);

describe('a running application on PostgreSQL', () => {
  it('continues when somebody drops its schema', { timeout: 60_000 }, async () => {
    const { url, schema, query, dispose } = openSchema();
    later(dispose);
    const held = `select owner is not null as held from minibatch.consumer where grp = 'default'`;
    const lines = await outlives({
      imports: [MinibatchModule.forRoot({ leaseTime: 3_000, store: postgresStore({ connectionString: url, schema }) })],
      drop: () => query(`drop schema ${schema} cascade`),
      // The store makes its tables at the next call, and the consumer takes its lease again.
      isBack: async () => (await query<{ held: boolean }>(held).catch(() => []))[0]?.held,
    });
    expect(lines.filter((line) => line.startsWith('warn: PostgreSQL has fsync = off'))).toHaveLength(1);
  });
});
