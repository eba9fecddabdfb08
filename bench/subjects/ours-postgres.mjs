import { postgresStore } from 'nestjs-minibatch/postgres';
import { bootOurs, sessionOfOurs } from '../lib/nest-app.mjs';
import { openPool, PROFILE, statementMeter, uncounted } from '../lib/postgres.mjs';

const SCHEMA = 'minibatch_bench_ours';

export default {
  name: 'ours-postgres',
  label: 'nestjs-minibatch, PostgreSQL',
  ...PROFILE,
  packages: ['nestjs-minibatch', 'pg', '@nestjs/core'],

  async open({ servers, clear, ...options }) {
    const connectionString = servers.postgres.url;
    const own = await uncounted(connectionString);
    if (clear) await own.query(`drop schema if exists ${SCHEMA} cascade`);
    const pool = openPool(connectionString);
    const ours = await bootOurs({ store: postgresStore({ pool, schema: SCHEMA }), ...options });
    const counted = statementMeter();
    return {
      ...sessionOfOurs(ours, options),
      start() {
        counted.reset();
        return ours.start();
      },
      async left() {
        const { rows } = await own.query(`select count(*)::int as count from ${SCHEMA}.message`);
        return rows[0].count;
      },
      figures: () => ({ commands: counted.total }),
      async close() {
        await ours.close();
        await pool.end();
        await own.end();
      },
    };
  },
};
