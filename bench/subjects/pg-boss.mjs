import { PgBoss } from 'pg-boss';
import { Gate } from '../lib/gate.mjs';
import { until } from '../lib/pause.mjs';
import { statementMeter, uncounted } from '../lib/postgres.mjs';

/** The shortest that it takes; after a full batch it fetches at once. */
const WORKER = { pollingIntervalSeconds: 0.5, burstWhenBatchFull: true };

export default {
  name: 'pg-boss',
  label: 'pg-boss, PostgreSQL',
  needs: ['postgres'],
  durability: 'synced to disk before the append resolves',
  scale: 0.25,
  packages: ['pg-boss', 'pg'],

  async open({ servers, streams, clear, size, groups, onWindow }) {
    const connectionString = servers.postgres.url;
    const counter = await uncounted(connectionString);
    if (clear) await counter.query('drop schema if exists pgboss cascade');
    // NOTIFY wakes the workers.
    const boss = new PgBoss({ connectionString, useListenNotify: true, supervise: false, schedule: false });
    boss.on('error', (error) => console.error(`pg-boss: ${error.message}`));
    await boss.start();
    for (const stream of streams) await boss.createQueue(stream, { notify: true });
    const handler = new Handler(groups, onWindow);
    // Its worker waits between batches of one, whatever it is told: for these there is a loop.
    const consumer = size === 1 ? new Loops(boss, streams, handler) : new Workers(boss, streams, handler, size);
    return session({ boss, counter, consumer, handler, streams });
  },
};

class Handler {
  handled = 0;
  #groups;
  #onWindow;

  constructor(groups, onWindow) {
    this.#groups = groups;
    this.#onWindow = onWindow;
  }

  async handle(jobs) {
    const data = jobs.map((job) => job.data);
    for (const group of this.#groups) await this.#onWindow(group, data);
    this.handled += jobs.length * this.#groups.length;
  }
}

/** pg-boss's own workers. */
class Workers {
  #streams;
  #begin;
  #end;

  constructor(boss, streams, handler, batchSize) {
    const options = { ...WORKER, batchSize };
    this.#begin = (stream) => boss.work(stream, options, (jobs) => handler.handle(jobs));
    this.#end = (stream) => boss.offWork(stream, { wait: true });
    this.#streams = streams;
  }

  async start() {
    for (const stream of this.#streams) await this.#begin(stream);
  }
  async pause() {
    for (const stream of this.#streams) await this.#end(stream);
  }
  resume() {
    return this.start();
  }
  wake() {}
  async stop() {}
}

/** Fetches job by job: one loop a stream. */
class Loops {
  #boss;
  #streams;
  #handler;
  #loops = [];
  #stopped = false;
  #wake = () => {};
  #gate = new Gate(() => this.#wake());

  constructor(boss, streams, handler) {
    this.#boss = boss;
    this.#streams = streams;
    this.#handler = handler;
  }

  async start() {
    this.#loops.push(...this.#streams.map((stream) => this.#run(stream)));
  }
  async pause() {
    await this.#gate.shut();
  }
  async resume() {
    this.#gate.open();
  }
  /** On an append in this process, as our module does it; otherwise it polls twice a second, as pg-boss's worker does. */
  wake() {
    this.#wake();
  }
  async stop() {
    this.#stopped = true;
    this.#gate.open();
    this.#wake();
    await Promise.all(this.#loops);
  }

  async #run(stream) {
    while (!this.#stopped) {
      await this.#gate.pass();
      const woken = new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 500);
      });
      const jobs = await this.#boss.fetch(stream, { batchSize: 1 });
      if (jobs.length === 0) await woken;
      else {
        await this.#handler.handle(jobs);
        await this.#boss.complete(stream, jobs[0].id);
      }
    }
  }
}

function session({ boss, counter, consumer, handler, streams }) {
  const counted = statementMeter();
  const active = async () => {
    const { rows } = await counter.query(
      "select count(*) as n from pgboss.job where state in ('created', 'retry', 'active')",
    );
    return Number(rows[0].n);
  };
  return {
    async append(message, stream = streams[0]) {
      await boss.send(stream, message);
      consumer.wake();
    },
    appendMany(messages, stream = streams[0]) {
      const jobs = messages.map((data) => ({ data }));
      return boss.insert(stream, jobs);
    },
    async start() {
      counted.reset();
      await consumer.start();
    },
    pause: () => consumer.pause(),
    resume: () => consumer.resume(),
    settled: async (messages) => {
      await until(() => handler.handled >= messages);
      await until(async () => (await active()) === 0, { every: 5 });
    },
    left: active,
    figures: () => ({ commands: counted.total }),
    async close() {
      await consumer.stop();
      await boss.stop({ graceful: true, timeout: 10_000 });
      await counter.end();
    },
  };
}
