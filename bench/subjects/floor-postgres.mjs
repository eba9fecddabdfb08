import { FloorLoop } from '../lib/floor-loop.mjs';
import { openPool, PROFILE, statementMeter, uncounted } from '../lib/postgres.mjs';

/** However large the windows: the floor is the best that can be done. */
const BLOCK = 1000;
const SCHEMA = 'minibatch_bench_floor';

/** The settings of autovacuum are those of the module's tables: without them the loop slows down with every row that it has deleted. */
const TABLES = `
create schema ${SCHEMA};
create table ${SCHEMA}.message (
  id bigint generated always as identity primary key,
  created timestamptz not null default now(),
  data jsonb not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
create table ${SCHEMA}.handled (id bigint primary key);
`;
const INSERT = {
  name: 'insert',
  text: `insert into ${SCHEMA}.message (data) select value from json_array_elements($1::json) returning id`,
};
const SELECT = { name: 'select', text: `select id, data from ${SCHEMA}.message order by id limit ${BLOCK}` };
const FIND = { name: 'find', text: `select data from ${SCHEMA}.message where id = $1` };
const DELETE = { name: 'delete', text: `delete from ${SCHEMA}.message where id = any($1::bigint[])` };
const HANDLED = { name: 'handled', text: `insert into ${SCHEMA}.handled values ($1)` };

/**
 * The bare driver doing the least that stores messages and takes them out again, each statement prepared and synced to disk; it would
 * lose windows in a crash.
 */
export default {
  name: 'floor-postgres',
  label: 'bare PostgreSQL driver',
  ...PROFILE,
  packages: ['pg'],
  without: ['streams', 'idle', 'startup'],

  async open({ servers, clear, groups, onWindow }) {
    const connectionString = servers.postgres.url;
    const own = await uncounted(connectionString);
    if (clear) await own.query(`drop schema if exists ${SCHEMA} cascade; ${TABLES}`);
    const pool = openPool(connectionString);
    const run = (statement, ...values) => pool.query({ ...statement, values });
    const appendMany = (messages) => run(INSERT, JSON.stringify(messages));
    const counted = statementMeter();
    const loop = new FloorLoop(blocks(run, { groups, onWindow }));
    return {
      append: (message) => appendMany([message]),
      appendMany,
      async appendConcurrently(messages, count) {
        for (let n = 0; n < messages.length; n += count) await appendMany(messages.slice(n, n + count));
      },
      async start() {
        counted.reset();
        loop.start();
      },
      settled: (messages) => loop.settled(messages),
      async roundTrip(message) {
        onWindow(groups[0], [await roundTrip(run, message)]);
      },
      pause: () => loop.gate.shut(),
      resume: async () => loop.gate.open(),
      async left() {
        const { rows } = await own.query(`select count(*)::int as count from ${SCHEMA}.message`);
        return rows[0].count;
      },
      figures: () => ({ commands: counted.total }),
      async close() {
        await loop.stop();
        await pool.end();
        await own.end();
      },
    };
  },
};

/** select + delete. */
function blocks(run, { groups, onWindow }) {
  return async () => {
    const { rows } = await run(SELECT);
    if (rows.length === 0) return 0;
    const data = rows.map((row) => row.data);
    for (const group of groups) await onWindow(group, data);
    await run(DELETE, `{${rows.map(({ id }) => id).join(',')}}`);
    return rows.length * groups.length;
  };
}

/** Stores a message, reads it and writes down its window; resolves with its data. */
async function roundTrip(run, message) {
  const [{ id }] = (await run(INSERT, JSON.stringify([message]))).rows;
  const [{ data }] = (await run(FIND, id)).rows;
  await run(HANDLED, id);
  return data;
}
