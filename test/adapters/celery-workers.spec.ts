import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { CeleryEvent, CeleryTaskEvent } from 'nestjs-minibatch/celery';
import { startCelery, watchTasks } from '../../scripts/servers/celery/celery.mjs';
import { closeAll, later, SOON } from '../e2e/support/applications.js';
import {
  type BrokerServer,
  follow,
  type Follower,
  listening,
  RABBITMQ,
  REDIS,
  succeeded,
  usePublisher,
} from './support/celery.js';

afterEach(closeAll);

/** Tasks that end in every way; the ids come in this order. */
const CALLS = [
  { name: 'tests.add', args: [1, 2] },
  { name: 'tests.fail', args: ['broken'] },
  { name: 'tests.flaky', args: [1] },
  { name: 'tests.progress', args: ['half'] },
  { name: 'tests.unknown' },
  { name: 'tests.add', args: [3, 4], options: { expires: -10 } },
] as const;

const OF_AN_EARLIER_RUN = new Set(['exception', 'exchange', 'routing_key']);

/**
 * `(1, 2)` in the client's event is `[1, 2]` in the worker's: which comes last is a matter of chance. And Celery's own state mixes the
 * runs of a task: after a retry it still shows how the first run was sent, and its exception.
 */
function comparable(told: readonly object[]) {
  const plain = (value: unknown) =>
    JSON.parse(JSON.stringify(value).replace(/\(([^()]*?),?\)"/g, '[$1]"')) as CeleryTaskEvent;
  const ofItsRun = (event: CeleryTaskEvent): CeleryTaskEvent => {
    if (event.task_event !== 'task-succeeded' || !event.task_info.retries) return event;
    const info = Object.entries(event.task_info).filter(([name]) => !OF_AN_EARLIER_RUN.has(name));
    return { ...event, task_info: Object.fromEntries(info) };
  };
  return told
    .map(plain)
    .map(ofItsRun)
    .toSorted((a, b) => a.task_id.localeCompare(b.task_id));
}

const eventsOf = (follower: Follower<CeleryTaskEvent>, id: string | undefined) =>
  follower.data.filter(({ task_id }) => task_id === id).map(({ task_event, task_state }) => [task_event, task_state]);

describe.each([REDIS, RABBITMQ])('the events of Celery workers by $name', { timeout: 120_000 }, (kind) => {
  let server: BrokerServer;
  beforeAll(async () => {
    server = await kind.start();
  });
  afterAll(() => server.stop());

  it.each(['prefork', 'threads', 'solo'] as const)(
    'become what Celery itself knows of the tasks: pool %s',
    async (pool) => {
      const publisher = await usePublisher(kind, server.url);
      const follower = await follow({ url: server.url });
      const all = await follow({ url: server.url, events: '*' });
      await Promise.all([follower, all].map((each) => listening(each, publisher)));
      const watch = await watchTasks(server.url);
      later(() => watch.stop());
      const worker = await startCelery({ broker: server.url, pool });
      later(() => worker.stop());
      const sent = await worker.send(CALLS);
      // Where the pool lets all of them end: threads lose events while the worker still has them (see the docs).
      const complete = pool !== 'threads';
      // By their ids: what the worker of the test before has left undone comes to this one.
      const ended = () => follower.data.filter(({ task_id }) => sent.includes(task_id));
      if (complete) await vi.waitUntil(() => ended().length >= 5, { ...SOON, timeout: 60_000 });
      await worker.stop();
      // What the worker has sent comes before it.
      await publisher.publish(succeeded('the end'), 'task.succeeded');
      const isLast = ({ task_id }: CeleryTaskEvent) => task_id === 'the end';
      const told = () => watch.told as unknown as readonly CeleryTaskEvent[];
      await vi.waitUntil(() => [follower.data, all.data, told()].every((data) => data.some(isLast)), SOON);

      expect(comparable(follower.data)).toEqual(comparable(told()));
      expect(all.source.counters).toMatchObject({ malformed: 0, dropped: 0, interruptions: 0 });
      const own = all.data.filter(({ task_id }) => sent.includes(task_id));
      expect(own.length).toBeGreaterThan(0);
      expect(own.filter(({ task_name }) => task_name === null)).toEqual([]);
      if (!complete) return;

      const [add, fail, flaky, , unknown] = sent.map((id) => follower.data.find(({ task_id }) => task_id === id));
      expect(add).toMatchObject({
        task_event: 'task-succeeded',
        task_name: 'tests.add',
        task_state: 'SUCCESS',
        task_info: { kwargs: '{}', result: '3', retries: 0 },
        task_runtime: expect.any(Number),
      });
      expect(fail).toMatchObject({
        task_event: 'task-failed',
        task_name: 'tests.fail',
        task_state: 'FAILURE',
        task_info: { exception: "ValueError('broken')" },
        task_runtime: null,
      });
      expect(flaky).toMatchObject({ task_event: 'task-succeeded', task_info: { retries: 1, result: '1' } });
      expect(flaky?.task_info).not.toHaveProperty('exception');
      expect(unknown).toMatchObject({ task_event: 'task-failed', task_name: 'tests.unknown' });

      const [, , retried, progress, , expired] = sent;
      expect(eventsOf(all, retried)).toContainEqual(['task-retried', 'RETRY']);
      expect(eventsOf(all, progress)).toContainEqual(['task-progress', 'PROGRESS']);
      expect(eventsOf(all, expired)).toContainEqual(['task-revoked', 'REVOKED']);
    },
  );

  it('are given as they are with raw, those of the workers themselves too', async () => {
    const publisher = await usePublisher(kind, server.url);
    const follower = await follow<CeleryEvent>({ url: server.url, raw: true, events: '*' });
    await listening(follower, publisher);
    const worker = await startCelery({ broker: server.url, pool: 'solo', name: 'raw' });
    later(() => worker.stop());
    const [id] = await worker.send([{ name: 'tests.fail', args: ['raw'] }]);
    const types = () => follower.data.filter(({ uuid, hostname }) => uuid === id || hostname === 'raw@localhost');
    await vi.waitFor(() => {
      expect(types().map(({ type }) => type)).toEqual(
        expect.arrayContaining(['worker-online', 'task-sent', 'task-received', 'task-started', 'task-failed']),
      );
    }, SOON);
    expect(follower.data.find(({ type, uuid }) => type === 'task-failed' && uuid === id)).toMatchObject({
      uuid: id,
      hostname: 'raw@localhost',
      clock: expect.any(Number),
      exception: "ValueError('raw')",
      traceback: expect.stringContaining('Traceback'),
    });
  });
});
