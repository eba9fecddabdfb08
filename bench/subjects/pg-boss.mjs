import { PgBoss } from 'pg-boss';
import pg from 'pg';
import { Gate } from '../lib/gate.mjs';
import { until } from '../lib/pause.mjs';

/** The shortest that it takes; after a full batch it fetches at once. */
const WORKER = { pollingIntervalSeconds: 0.5, burstWhenBatchFull: true };

/** All that go over a client of this process but the one that looks. */
let queries = 0;
const { query } = pg.Client.prototype;
pg.Client.prototype.query = function counted(...args) {
  if (!this.uncounted) queries += 1;
  return query.apply(this, args);
};

export default {
  name: 'pg-boss',
  label: 'pg-boss, PostgreSQL',
  needs: ['postgres'],
  durability: 'synced to disk before the append resolves',
  scale: 0.25,
  packages: ['pg-boss', 'pg'],

  async open({ servers, streams, clear, size, groups, onWindow }) {
    const connectionString = servers.postgres.url;
    const look = new pg.Client({ connectionString });
    look.uncounted = true;
    await look.connect();
    if (clear) await look.query('drop schema if exists pgboss cascade');
    // NOTIFY wakes the workers.
    const boss = new PgBoss({ connectionString, useListenNotify: true, supervise: false, schedule: false });
    boss.on('error', (error) => console.error(`pg-boss: ${error.message}`));
    await boss.start();
    for (const stream of streams) await boss.createQueue(stream, { notify: true });
    let [handled, before, stopped] = [0, 0, false];
    let wake = () => {};
    const gate = new Gate(() => wake());
    const loops = [];
    const handle = async (jobs) => {
      const data = jobs.map((job) => job.data);
      for (const group of groups) await onWindow(group, data);
      handled += jobs.length * groups.length;
    };
    // Its worker waits between batches of one, whatever it is told: for these it has this loop.
    async function loop(stream) {
      while (!stopped) {
        await gate.pass();
        // Told by an append of this process, as ours is; otherwise it polls twice a second, as its worker does.
        const woken = new Promise((resolve) => {
          wake = resolve;
          setTimeout(resolve, 500);
        });
        const jobs = await boss.fetch(stream, { batchSize: 1 });
        if (jobs.length === 0) await woken;
        else {
          await handle(jobs);
          await boss.complete(stream, jobs[0].id);
        }
      }
    }
    return {
      async append(message, stream = streams[0]) {
        await boss.send(stream, message);
        wake();
      },
      appendMany: (messages, stream = streams[0]) =>
        boss.insert(
          stream,
          messages.map((data) => ({ data })),
        ),
      async start() {
        before = queries;
        if (size === 1) loops.push(...streams.map(loop));
        else await work();
      },
      async pause() {
        if (size === 1) await gate.shut();
        else for (const stream of streams) await boss.offWork(stream, { wait: true });
      },
      resume: async () => (size === 1 ? gate.open() : work()),
      settled: async (messages) => {
        await until(() => handled >= messages);
        await until(async () => (await active()) === 0, { every: 5 });
      },
      left: active,
      figures: () => ({ commands: queries - before }),
      async close() {
        stopped = true;
        gate.open();
        wake();
        await Promise.all(loops);
        await boss.stop({ graceful: true, timeout: 10_000 });
        await look.end();
      },
    };

    async function work() {
      for (const stream of streams) await boss.work(stream, { ...WORKER, batchSize: size }, handle);
    }
    async function active() {
      const { rows } = await look.query(
        "select count(*) as n from pgboss.job where state in ('created', 'retry', 'active')",
      );
      return Number(rows[0].n);
    }
  },
};
