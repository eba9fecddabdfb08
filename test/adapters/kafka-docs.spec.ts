import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { SOON } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { blocksOf } from '../readme/blocks.js';
import { repository, run, tool } from '../support/workspace.js';
import { KafkaTools } from './support/kafka-tools.js';

/** What the Nest CLI generates for an ESM application. */
const TEMPLATE = repository('node_modules/@nestjs/schematics/dist/lib/application/files/ts-esm/tsconfig.json');
const blocks = blocksOf(await readFile(repository('docs/adapters/kafka.md'), 'utf8'));

/** What a reader has from the text around a block. */
const PRELUDE = `
import { Injectable } from '@nestjs/common';
import type { KafkaConfig } from 'kafkajs';
import { StreamSource } from 'nestjs-minibatch';
import { KafkaSink, KafkaSource } from 'nestjs-minibatch/kafka';
interface Flight { origin: string; delay: number }
interface Report { origin: string; worst: number }
abstract class ConfigService { abstract get<T = any>(name: string): T }
declare const kafka: KafkaConfig;
declare const registry: { decode(value: Buffer): Promise<Flight> };
`;
const around = (code: string) =>
  code.startsWith('super(')
    ? `export class Feed extends KafkaSource<Flight | null> { constructor() { ${code} } }`
    : code;

describe('what a user pastes', { timeout: 60_000 }, () => {
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
    await writeFile(join(folder, 'tsconfig.json'), (await readFile(TEMPLATE, 'utf8')).replace('<%= strict %>', 'true'));
    await copyFile(repository('examples/kafka/main.ts'), join(folder, 'src/main.ts'));
    for (const { code, line } of blocks) {
      await writeFile(join(folder, `src/line-${line}.ts`), `${PRELUDE}${around(code)}\n`);
    }
    const { stdout } = await run(tool('tsc'), ['-p', 'tsconfig.json', '--pretty', 'false'], { cwd: folder });
    errors = stdout.split('\n').filter((line) => line !== '');
  }, 120_000);

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
    await tools.stop();
  });
  afterEach(endProcesses);

  it('compiles in a fresh strict application', () => {
    expect(blocks.length).toBeGreaterThan(3);
    expect(errors).toEqual([]);
  });

  it('runs: the example reads a topic, writes its report to another, and stops cleanly', async () => {
    await tools.topic(1, {}, 'flights');
    await tools.topic(1, {}, 'reports');
    await tools.produce('flights', [{ value: '{"origin":"SAT","delay":25}' }, { value: '{"origin":"LAX","delay":5}' }]);
    const env = { KAFKA_BROKERS: tools.server.broker, DATA: join(folder, 'data'), NO_COLOR: '1' };
    const app = new NodeProcess(join(folder, 'dist/src/main.js'), [], { cwd: folder, env });
    await vi.waitUntil(async () => (await tools.written('reports')) > 0, SOON);
    const [report] = await tools.read('reports');
    expect(JSON.parse(String(report?.value))).toEqual({ flights: 2, worst: 25 });
    await expect(app.kill('SIGTERM')).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    expect(app.output).toMatch(/stopped: 0 windows drained, 0 abandoned/);
    expect(app.output).not.toMatch(/WARN|ERROR/);
    expect(await tools.members('minibatch.flights')).toBe(0);
  });
});
