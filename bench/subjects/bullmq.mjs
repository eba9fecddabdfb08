import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { until } from '../lib/pause.mjs';

/** A finished job is not kept, as a message of ours is not. */
const JOB = { removeOnComplete: true, attempts: 5 };

/** The method of a worker: each job is done when the window it is in has been handled. */
function collectWindows(size, handle) {
  let jobs = [];
  return (job) =>
    new Promise((resolve, reject) => {
      jobs.push({ job, resolve, reject });
      if (jobs.length < size) return;
      const window = jobs;
      jobs = [];
      handle(window.map((each) => each.job.data)).then(
        () => window.forEach((each) => each.resolve()),
        (error) => window.forEach((each) => each.reject(error)),
      );
    });
}

/**
 * BullMQ hands out jobs one by one. A window is what a user makes of it: a worker with as many active jobs as a window has messages, each of
 * which is done when the window it is in has been handled.
 */
export const bullmq = (fsync) => ({
  name: fsync === 'always' ? 'bullmq-always' : 'bullmq',
  label: `BullMQ, Redis AOF ${fsync}`,
  needs: [`redis-${fsync}`],
  durability:
    fsync === 'always' ? 'synced to disk before the append resolves' : 'on disk within a second of the append',
  scale: 0.25,
  packages: ['bullmq', 'ioredis'],

  async open({ servers, streams, clear, size, groups, onWindow }) {
    const { url } = servers[`redis-${fsync}`];
    const redis = new Redis(url, { maxRetriesPerRequest: null });
    if (clear) await redis.flushall();
    const queues = new Map(streams.map((stream) => [stream, new Queue(stream, { connection: redis })]));
    await Promise.all([...queues.values()].map((queue) => queue.waitUntilReady()));
    const workers = [];
    let [handled, before] = [0, 0];
    const commands = async () => Number(/total_commands_processed:(\d+)/.exec(await redis.info('stats'))[1]);

    const handle = async (data) => {
      for (const group of groups) await onWindow(group, data);
    };
    const queue = (stream = streams[0]) => queues.get(stream);
    return {
      append: (message, stream) => queue(stream).add('message', message, JOB),
      appendMany: (messages, stream) =>
        queue(stream).addBulk(messages.map((data) => ({ name: 'message', data, opts: JOB }))),
      async start() {
        before = await commands();
        const connection = new Redis(url, { maxRetriesPerRequest: null });
        connection.setMaxListeners(0);
        for (const stream of streams) {
          const worker = new Worker(stream, collectWindows(size, handle), { connection, concurrency: size });
          worker.on('completed', () => (handled += groups.length));
          worker.on('error', (error) => console.error(`BullMQ: ${error.message}`));
          workers.push(worker);
        }
        workers.connection = connection;
      },
      pause: () => Promise.all(workers.map((worker) => worker.pause())),
      resume: async () => workers.forEach((worker) => worker.resume()),
      settled: (messages) => until(() => handled >= messages),
      async left() {
        let count = 0;
        for (const each of queues.values())
          count += await each.getJobCountByTypes('wait', 'active', 'delayed', 'failed', 'paused');
        return count;
      },
      figures: async () => ({ commands: (await commands()) - before }),
      async close() {
        await Promise.all(workers.map((worker) => worker.close()));
        await Promise.all([...queues.values()].map((each) => each.close()));
        workers.connection?.disconnect();
        redis.disconnect();
      },
    };
  },
});

export default bullmq('everysec');
