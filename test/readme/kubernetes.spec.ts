import 'reflect-metadata';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { NestFactory } from '@nestjs/core';
import { load } from 'js-yaml';
import { memoryStore, MinibatchModule, Streaming, StreamService, type StreamReport } from 'nestjs-minibatch';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { SHUTDOWN_TIMEOUT } from '../../libs/minibatch/src/definitions/shared.options.js';
import { closeAll, later, SOON } from '../e2e/support/applications.js';
import { repository } from '../support/workspace.js';
import { blocksOf } from './blocks.js';
import { containerFiles, type Deployment, type ScaledObject } from './containers.js';

const page = async (name: string) => readFile(repository('docs/guides', name), 'utf8');
const manifests = async (name: string) => blocksOf(await page(name), 'yaml').map(({ code }) => load(code));

class Audit {
  @Streaming('orders', { size: 100, group: 'audit' })
  audit(): void {}
}

describe('the manifests for Kubernetes', async () => {
  const [deployment] = (await manifests('deployment.md')) as [Deployment];
  const [scaled] = (await manifests('scaling.md')) as [ScaledObject];
  const { statefulSet } = containerFiles(await page('recipes.md'));
  afterEach(closeAll);

  it('of a Deployment give a shutdown its time, and probe what the recipe serves', () => {
    expect(deployment).toMatchObject({ apiVersion: 'apps/v1', kind: 'Deployment' });
    const { selector, strategy, template } = deployment.spec;
    expect(template.metadata.labels).toEqual(selector.matchLabels);
    expect(strategy.rollingUpdate).toEqual({ maxSurge: 1, maxUnavailable: 0 });
    expect(template.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(SHUTDOWN_TIMEOUT / 1_000 + 4);
    const [container] = template.spec.containers;
    const [recipe] = statefulSet.spec.template.spec.containers;
    expect(container?.livenessProbe).toEqual(recipe?.livenessProbe);
    expect(container?.readinessProbe).toEqual(recipe?.readinessProbe);
    expect(container?.startupProbe?.httpGet).toEqual(recipe?.livenessProbe.httpGet);
    expect(container?.ports).toEqual([{ containerPort: recipe?.livenessProbe.httpGet.port }]);
  });

  it('of an autoscaler read what the status serves', async () => {
    expect(scaled.spec.scaleTargetRef).toEqual({ kind: 'Deployment', name: deployment.metadata.name });
    const [trigger, ...others] = scaled.spec.triggers;
    expect(others).toEqual([]);
    expect(trigger).toMatchObject({ type: 'metrics-api', metadata: { format: 'json' } });
    const store = memoryStore();
    const imports = [MinibatchModule.forRoot({ store, statusController: { guards: [] } })];
    const root = { module: class AppModule {}, imports, providers: [Audit] };
    const app = await NestFactory.create(root, { logger: false, abortOnError: false });
    later(() => app.close());
    await app.listen(0, '127.0.0.1');
    const { pathname } = new URL(trigger?.metadata.url ?? '');
    const { port } = app.getHttpServer().address() as AddressInfo;
    const read = async () => (await fetch(`http://127.0.0.1:${port}${pathname}`)).json() as Promise<StreamReport>;
    const audit = async () => (await read()).consumers.find(({ group }) => group === 'audit');
    await vi.waitUntil(async () => (await audit())?.stored, SOON);
    // Too few for a window.
    await app.get(StreamService).append('orders', 1);
    const status = await read();
    const at = (path: string) =>
      path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], status);
    expect(at(trigger?.metadata.valueLocation ?? '')).toBe(1);
    // What the page takes for a single group.
    expect(await page('scaling.md')).toContain('`consumers.#(group=="audit").stored.pending`');
    expect(await audit()).toMatchObject({ stored: { pending: 1 } });
  });
});
