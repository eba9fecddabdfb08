import { Redis } from 'ioredis';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { closeAll, later, SOON } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository, temporaryFolder } from '../support/workspace.js';
import { event, REDIS, succeeded, usePublisher } from './support/celery.js';
import { compilePage } from './support/documentation.js';

afterEach(async () => {
  await endProcesses();
  await closeAll();
});

describe('the documentation of Celery events', { timeout: 120_000 }, () => {
  it('has code that compiles in a fresh strict application', async () => {
    const config = 'abstract class ConfigService { abstract getOrThrow(name: string): string }';
    const page = await compilePage('celery.md', [
      { file: 'tasks', around: (code) => `${config}\n${code}` },
      { file: 'raw', around: (code) => code },
    ]);
    later(() => page.dispose());
    expect(page).toMatchObject({ unframed: 0, errors: [] });
  });

  it('has an example that runs', async () => {
    const server = await REDIS.start();
    later(() => server.stop());
    const publisher = await usePublisher(REDIS, server.url);
    const folder = await temporaryFolder();
    later(() => folder.dispose());
    const app = new NodeProcess(repository('examples/celery/main.mjs'), [], {
      env: { CELERY_BROKER_URL: server.url, REPORT_INTERVAL: '100', STREAMS_PATH: folder.path, NO_COLOR: '1' },
    });
    const redis = new Redis(server.url);
    later(async () => redis.disconnect());
    await vi.waitUntil(async () => Number(await redis.pubsub('NUMPAT')) > 0, SOON);
    await publisher.publish([
      event('task-received', { uuid: 'a', name: 'app.bill' }),
      succeeded('b'),
      event('task-failed', { uuid: 'a', exception: "ValueError('no money')" }),
    ]);
    await app.line(/^2 tasks ended, 1 failed$/);
    await app.line(/^ {2}app\.bill: ValueError\('no money'\)$/);
  });
});
