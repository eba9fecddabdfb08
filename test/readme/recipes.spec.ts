import 'reflect-metadata';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { INestApplication, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { getConnectionToken } from '@nestjs/mongoose';
import { Test } from '@nestjs/testing';
import {
  AppendError,
  ErrorCode,
  memoryStore,
  MinibatchModule,
  type Sink,
  type StreamStore,
  type Window,
} from 'nestjs-minibatch';
import { MinibatchHarness, MinibatchTestingModule, wrapStore } from 'nestjs-minibatch/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { closeAll, later, useDatabase } from '../e2e/support/applications.js';
import { repository, run, tool } from '../support/workspace.js';
import { SHUTDOWN_TIMEOUT } from '../../libs/minibatch/src/definitions/shared.options.js';
import { blocksOf } from './blocks.js';
import { containerFiles } from './containers.js';

const PAGE = 'docs/guides/recipes.md';
const page = await readFile(repository(PAGE), 'utf8');

/** The text from one heading to the next. */
function section(title: string): string {
  const [, found = ''] = page.split(`\n## ${title}\n`);
  return found.split('\n## ')[0] ?? '';
}

/** Each block as a file of an application. That they compile in a strict one, `docs.spec.ts` sees to. */
describe('the recipes', () => {
  let folder: string;

  beforeAll(async () => {
    await mkdir(repository('test/.tmp'), { recursive: true });
    folder = await mkdtemp(repository('test/.tmp/recipes-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  afterEach(closeAll);

  /** What the only block of a section exports. */
  async function pasted(title: string): Promise<Record<string, Type>> {
    const [block, ...more] = blocksOf(section(title));
    expect([block?.code, more]).toEqual([expect.any(String), []]);
    const file = join(folder, `${title.replace(/\W+/g, '-')}.ts`);
    await writeFile(file, block?.code ?? '');
    return (await import(pathToFileURL(file).href)) as Record<string, Type>;
  }

  async function listening(module: Parameters<typeof NestFactory.create>[0]): Promise<string> {
    const app: INestApplication = await NestFactory.create(module, { logger: false, abortOnError: false });
    later(() => app.close());
    await app.listen(0, '127.0.0.1');
    return `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}`;
  }

  /** In memory; `fails` says what a call fails with. */
  function memory(fails: (method: string) => Error | undefined): StreamStore {
    return wrapStore(memoryStore().useFactory() as StreamStore, (call) => {
      const error = fails(call.method);
      return error ? Promise.reject(error) : call.proceed();
    });
  }

  it('take flights by REST, and answer 400 and 503 where that is due', async () => {
    const { FlightsController, Flights } = await pasted('REST with validation, and 503 when busy');
    let code: ErrorCode | undefined;
    const store = memory((method) => (code && method === 'append' ? new AppendError(code, 'no', 'no') : undefined));
    const url = await listening({
      module: class AppModule {},
      imports: [MinibatchModule.forRoot({ store }), MinibatchModule.forFeature([Flights as never])],
      controllers: [FlightsController as Type],
    });
    const post = async (body: unknown) => {
      const headers = { 'content-type': 'application/json', 'idempotency-key': 'one' };
      const response = await fetch(`${url}/flights`, { method: 'POST', headers, body: JSON.stringify(body) });
      return [response.status, await response.json()] as const;
    };
    const flight = { origin: 'SAT', delay: 25 };
    expect(await post(flight)).toEqual([202, { duplicate: false }]);
    expect(await post(flight)).toEqual([202, { duplicate: true }]);
    expect(await post({ origin: 'SAT' })).toMatchObject([
      400,
      { message: 'origin must be a string, and delay a number' },
    ]);
    code = ErrorCode.StreamFull;
    expect(await post(flight)).toMatchObject([503, { message: 'busy, try again later' }]);
    code = ErrorCode.AppendFailed;
    expect(await post(flight)).toMatchObject([500, { message: 'Internal server error' }]);
  });

  it('wait for a flaky API, and set aside what it refuses', async () => {
    const { Geocoder, GeoApi } = await pasted('A flaky API');
    const asked: string[] = [];
    let status = 503;
    const api = {
      find: async ({ street }: { street: string }, signal: AbortSignal) => {
        asked.push(street);
        expect(signal.aborted).toBe(false);
        return { status: status === 200 && street === 'nowhere' ? 422 : status };
      },
    };
    const app = await Test.createTestingModule({
      imports: [MinibatchTestingModule.forRoot()],
      providers: [Geocoder as Type, { provide: GeoApi as Type, useValue: api }],
    }).compile();
    later(() => app.close());
    await app.init();
    const harness = app.get(MinibatchHarness);
    await harness.appendMany<unknown>('addresses', [{ street: 'Main St' }, { street: 'nowhere' }]);
    await harness.advance('10 minutes');
    expect(asked.length).toBeGreaterThan(2);
    expect(await harness.deadLetters('addresses')).toEqual([]);
    status = 200;
    await harness.advance('10 minutes');
    expect(await harness.deadLetters('addresses')).toMatchObject([
      { data: { street: 'nowhere' }, error: 'unknown address (422)' },
    ]);
    expect(harness.status()).toMatchObject([{ buffered: 0, inFlight: 0 }]);
  });

  it('tell probes and alerts how it is', async () => {
    const { Probes } = await pasted('Liveness, readiness and alerts');
    let isAway = false;
    const store = memory((method) => (isAway && method === 'stats' ? new Error('no connection') : undefined));
    const url = await listening({
      module: class AppModule {},
      imports: [MinibatchModule.forRoot({ store })],
      controllers: [Probes as Type],
    });
    const get = async (path: string) => {
      const response = await fetch(`${url}/${path}`);
      return [response.status, await response.json()] as const;
    };
    expect(await get('live')).toEqual([200, { status: 'ok' }]);
    expect(await get('ready')).toEqual([200, { status: 'ok' }]);
    expect(await get('alerts')).toEqual([200, []]);
    isAway = true;
    expect(await get('live')).toEqual([200, { status: 'ok' }]);
    expect(await get('ready')).toMatchObject([503, { message: 'no connection' }]);
    expect(await get('alerts')).toMatchObject([200, [{ what: 'store-unavailable' }]]);
  });

  it('have a configuration of Vitest that runs their test', async () => {
    const [config, test] = blocksOf(section('Vitest and Jest'));
    const project = join(folder, 'vitest');
    await mkdir(project);
    await writeFile(join(project, 'vitest.config.ts'), config?.code ?? '');
    await writeFile(join(project, 'flight-report.spec.ts'), test?.code ?? '');
    const compilerOptions = { experimentalDecorators: true, emitDecoratorMetadata: true };
    await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions }));
    const { exitCode, stdout, stderr } = await run(
      tool('vitest'),
      ['run', '--root', project, '--testTimeout', '60000'],
      {
        cwd: project,
        env: { NO_COLOR: '1' },
      },
    );
    expect([exitCode, stdout + stderr]).toEqual([0, expect.stringMatching(/Tests +1 passed/)]);
  });

  describe('for containers', () => {
    const text = section('Docker and Kubernetes');
    const { instructions, compose, statefulSet } = containerFiles(text);
    const { template, ...set } = statefulSet.spec;
    const [container, ...others] = template.spec.containers;
    const argumentOf = (name: string) => instructions.filter(([each]) => each === name).map(([, given]) => given);

    it('give them the time that a shutdown takes', () => {
      // What comes after it: sinks, leases and connections.
      const least = SHUTDOWN_TIMEOUT / 1_000 + 4;
      expect(compose.services['worker']?.stop_grace_period).toMatch(/^\d+s$/);
      expect(Number.parseInt(compose.services['worker']?.stop_grace_period ?? '', 10)).toBeGreaterThanOrEqual(least);
      expect(template.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(least);
      // The signal reaches Node: no shell and no npm between them.
      const [command] = argumentOf('CMD');
      expect(JSON.parse(command ?? '')).toEqual(['node', 'dist/main.js']);
    });

    it('name in Compose only what is there', async () => {
      const [sample, imports] = blocksOf(await readFile(repository('README.md'), 'utf8'));
      for (const [name, service] of Object.entries(compose.services)) {
        expect([name, service.build ?? service.image]).toEqual([name, expect.any(String)]);
        const named = (service.volumes ?? []).map((volume) => volume.split(':')[0] ?? '');
        expect(Object.keys(compose.volumes)).toEqual(expect.arrayContaining(named));
      }
      for (const [variable, value] of Object.entries(compose.services['worker']?.environment ?? {})) {
        expect(`${sample?.code}${imports?.code}`).toContain(`process.env.${variable}`);
        expect(Object.keys(compose.services)).toContain(new URL(value).hostname);
      }
    });

    it('run one container a volume in Kubernetes, which may write it', () => {
      expect(statefulSet).toMatchObject({ apiVersion: 'apps/v1', kind: 'StatefulSet', spec: { replicas: 1 } });
      expect(others).toEqual([]);
      expect(template.metadata.labels).toEqual(set.selector.matchLabels);
      const [claim, ...claims] = set.volumeClaimTemplates;
      expect(claims).toEqual([]);
      expect(claim?.spec.accessModes).toEqual(['ReadWriteOncePod']);
      expect(claim?.spec.resources.requests.storage).toMatch(/^\d+Gi$/);
      expect(container?.volumeMounts).toEqual([{ name: claim?.metadata.name, mountPath: '/data' }]);
      // As the image has it, and the store.
      expect(argumentOf('RUN')).toContain('mkdir /data && chown node:node /data');
      expect(argumentOf('USER')).toEqual(['node']);
      expect(template.spec.securityContext.fsGroup).toBe(1000);
      expect(text).toContain("lmdbStore({ path: '/data/");
    });

    it('probe what is served, at the port of the sample', async () => {
      const { Probes } = await pasted('Liveness, readiness and alerts');
      const url = await listening({
        module: class AppModule {},
        imports: [MinibatchModule.forRoot({ store: memoryStore() })],
        controllers: [Probes as Type],
      });
      const probes = [container?.livenessProbe, container?.readinessProbe].map((probe) => probe?.httpGet);
      expect(probes.map((probe) => probe?.path)).toEqual(['/live', '/ready']);
      const sample = await readFile(repository('README.md'), 'utf8');
      for (const probe of probes) {
        expect((await fetch(`${url}${probe?.path}`)).status).toBe(200);
        expect(sample).toContain(`process.env.PORT ?? ${probe?.port})`);
      }
    });
  });

  it('cut windows as the table says', async () => {
    const { Reports } = await pasted('Choosing a window');
    const app = await Test.createTestingModule({
      imports: [MinibatchTestingModule.forRoot()],
      providers: [Reports as Type],
    }).compile();
    later(() => app.close());
    await app.init();
    const harness = app.get(MinibatchHarness);
    await harness.append<unknown>('flights', { delay: 1 });
    await harness.advance('1s');
    expect(harness.windows(Reports as never, 'bulk' as never)).toHaveLength(1);
    await harness.advance('2 minutes');
    expect(harness.windows(Reports as never, 'perMinute' as never)).toMatchObject([
      { window: { data: [{ delay: 1 }] } },
    ]);
  });

  it('have a sink that stores a result once, however often it is given', async () => {
    const { ReportSink } = await pasted('Idempotent sinks');
    const connection = await useDatabase().connect();
    const app = await Test.createTestingModule({
      providers: [ReportSink as Type, { provide: getConnectionToken(), useValue: connection }],
    }).compile();
    const sink = app.get<Sink>(ReportSink as Type);
    for (const flights of [1, 1]) await sink.put({ flights }, { id: 'flights/default/1' } as Window);
    expect(await connection.collection('reports').find().toArray()).toEqual([{ _id: 'flights/default/1', flights: 1 }]);
  });

  it('rename a group without losing what waits for it', async () => {
    const { FlightReport } = await pasted('Upgrading');
    const app = await Test.createTestingModule({
      imports: [MinibatchTestingModule.forRoot()],
      providers: [FlightReport as Type],
    }).compile();
    later(() => app.close());
    await app.init();
    const harness = app.get(MinibatchHarness);
    await harness.append<unknown>('flights', { delay: 1 });
    await harness.flush('flights');
    expect(harness.results(FlightReport as never, 'report' as never)).toEqual([1]);
    expect(harness.status()).toMatchObject([{ key: { group: 'report' } }]);
  });
});
