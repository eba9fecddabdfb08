import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { SOON } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository, run, tool } from '../support/workspace.js';
import { KafkaTools } from './support/kafka-tools.js';

/** What `nest new` of Nest 12 generates for a strict ESM application. */
const TEMPLATE = repository('test/fixtures/nest-apps/nest-12/tsconfig.json');

describe('the example for Kafka', { timeout: 60_000 }, () => {
  let tools: KafkaTools;
  let folder: string;
  let errors: readonly string[];

  beforeAll(async () => {
    tools = await KafkaTools.start();
    await mkdir(repository('test/.tmp'), { recursive: true });
    // Inside of the workspace, so that packages resolve as in an application.
    folder = await mkdtemp(repository('test/.tmp/kafka-'));
    await mkdir(join(folder, 'src'));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    await writeFile(join(folder, 'tsconfig.json'), await readFile(TEMPLATE, 'utf8'));
    await copyFile(repository('examples/kafka/main.ts'), join(folder, 'src/main.ts'));
    const { stdout } = await run(tool('tsc'), ['-p', 'tsconfig.json', '--pretty', 'false'], { cwd: folder });
    errors = stdout.split('\n').filter((line) => line !== '');
  }, 120_000);

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
    await tools.stop();
  });
  afterEach(endProcesses);

  it('compiles in a fresh strict application', () => {
    expect(errors).toEqual([]);
  });

  it('reads a topic, writes its report to another, and stops cleanly', async () => {
    await tools.topic(1, {}, 'flights');
    await tools.topic(1, {}, 'reports');
    await tools.produce('flights', [{ value: '{"origin":"SAT","delay":25}' }, { value: '{"origin":"LAX","delay":5}' }]);
    const env = { KAFKA_BROKERS: tools.server.broker, DATA: join(folder, 'data'), NO_COLOR: '1' };
    const app = new NodeProcess(join(folder, 'dist/src/main.js'), [], { cwd: folder, env });
    await vi.waitUntil(async () => (await tools.written('reports')) > 0, SOON);
    const [report] = await tools.read('reports');
    expect(JSON.parse(String(report?.value))).toEqual({ flights: 2, worst: 25 });
    await expect(app.kill('SIGTERM')).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    // That the report is in the topic does not say that its window is committed.
    expect(app.output).toMatch(/stopped: \d+ windows? drained, 0 abandoned/);
    expect(app.output).not.toMatch(/WARN|ERROR/);
    expect(await tools.members('minibatch.flights')).toBe(0);
  });

  it('starts by one command, is fed, and ends with it', async () => {
    const env = { KAFKA_BROKERS: tools.server.broker, NO_COLOR: '1' };
    const example = new NodeProcess(repository('scripts/example.mjs'), ['kafka'], { env });
    await example.line(/^reports: \{"flights":\d+,"worst":40\}$/);
    await expect(example.kill('SIGTERM')).resolves.toEqual({ code: 0, signal: null });
    expect(example.output).toMatch(/stopped: \d+ windows? drained, 0 abandoned/);
  });
});
