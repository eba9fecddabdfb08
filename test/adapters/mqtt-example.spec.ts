import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type MosquittoServer, startMosquitto } from '../../scripts/servers/mosquitto/mosquitto.mjs';
import { closeAll, SOON } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository, run, tool } from '../support/workspace.js';
import { connectTo } from './support/mqtt.js';

/** What `nest new` of Nest 12 generates for a strict ESM application. */
const TEMPLATE = repository('test/fixtures/nest-apps/nest-12/tsconfig.json');

describe('the example for MQTT', { timeout: 90_000 }, () => {
  let broker: MosquittoServer;
  let folder: string;
  let errors: readonly string[];

  beforeAll(async () => {
    broker = await startMosquitto();
    await mkdir(repository('test/.tmp'), { recursive: true });
    folder = await mkdtemp(repository('test/.tmp/mqtt-'));
    await mkdir(join(folder, 'src'));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    const config = await readFile(TEMPLATE, 'utf8');
    await writeFile(join(folder, 'tsconfig.json'), config);
    await copyFile(repository('examples/mqtt/main.ts'), join(folder, 'src/main.ts'));
    const { stdout } = await run(tool('tsc'), ['-p', 'tsconfig.json', '--pretty', 'false'], { cwd: folder });
    errors = stdout.split('\n').filter((line) => line !== '');
  }, 120_000);

  afterAll(async () => {
    await broker.stop();
    await rm(folder, { recursive: true, force: true });
  });
  afterEach(async () => {
    await endProcesses();
    await closeAll();
  });

  it('compiles in a fresh strict application', () => {
    expect(errors).toEqual([]);
  });

  it('starts by one command, is fed, and ends with it', async () => {
    const env = { MQTT_URL: broker.url, NO_COLOR: '1', MINIBATCH_CONSUMERS: undefined };
    const example = new NodeProcess(repository('scripts/example.mjs'), ['mqtt'], { env });
    await example.line(/^averages\/temperature: \{"readings":\d+,"celsius":21\}$/);
    await expect(example.kill('SIGTERM')).resolves.toEqual({ code: 0, signal: null });
    expect(example.output).toMatch(/stopped: \d+ windows? drained, 0 abandoned/);
  });

  it('has at most 40 lines, runs and stops cleanly', async () => {
    const code = await readFile(repository('examples/mqtt/main.ts'), 'utf8');
    expect(code.split('\n').length).toBeLessThanOrEqual(41);
    const env = {
      MQTT_URL: broker.url,
      STREAMS_PATH: join(folder, 'streams'),
      NO_COLOR: '1',
      MINIBATCH_CONSUMERS: undefined,
    };
    const app = new NodeProcess(join(folder, 'dist/src/main.js'), [], { cwd: folder, env });
    await app.line(/SensorFeed/);
    const client = await connectTo(broker.url);
    const averages: { readings: number; celsius: number }[] = [];
    client.on('message', (_, payload) => averages.push(JSON.parse(payload.toString())));
    await client.subscribeAsync('averages/temperature', { qos: 1 });
    await vi.waitFor(async () => {
      await client.publishAsync('sensors/kitchen/temperature', '{"celsius":21}', { qos: 1 });
      expect(averages[0]?.celsius).toBe(21);
    }, SOON);
    await client.publishAsync('sensors/kitchen/temperature', 'broken', { qos: 1 });
    await app.line(/a message of 'sensors\/kitchen\/temperature' .* is malformed and was skipped/);
    await expect(app.kill('SIGTERM')).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    expect(app.output).toMatch(/stopped: \d+ windows? drained, 0 abandoned/);
    expect(app.output).not.toMatch(/ERROR/);
  });
});
