import { afterAll, beforeAll, describe, it } from 'vitest';
import { startPostgres } from '../../../../../scripts/servers/postgres/postgres.mjs';
import { openSchema } from '../../../../../test/support/postgres-server.js';
import { DURABLE } from '../durability.spec.support.js';

describe('what PostgreSQL has acknowledged is there after the server was killed', () => {
  let server: Awaited<ReturnType<typeof startPostgres>>;
  // What a statement does not write to the disk itself stays in memory for longer than the test takes.
  beforeAll(async () => void (server = await startPostgres({ settings: ['wal_writer_delay=10s'] })));
  afterAll(() => server?.stop());

  it.each(DURABLE)('%s', { timeout: 60_000 }, async (_, run) => {
    const schema = openSchema(server.url);
    const store = schema.store();
    try {
      await store.open();
      await run(store, async () => {
        await server.kill9();
        await server.restart();
      });
    } finally {
      await store.close();
      await schema.dispose();
    }
  });
});
