import 'reflect-metadata';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { load } from 'js-yaml';
import { memoryStore, MinibatchModule, Streaming, StreamService, type Window } from 'nestjs-minibatch';
import { afterEach, describe, expect, it } from 'vitest';
import { SHUTDOWN_TIMEOUT } from '../../libs/minibatch/src/definitions/shared.options.js';
import { closeAll, later } from '../e2e/support/applications.js';
import { repository } from '../support/workspace.js';
import { blocksOf } from './blocks.js';
import { containerFiles, type Deployment, type ScaledObject } from './containers.js';

const textOf = (page: string) => readFile(repository(`docs/guides/${page}.md`), 'utf8');

async function manifest<M>(page: string): Promise<M> {
  const [block, ...more] = blocksOf(await textOf(page), 'yaml');
  expect(more).toEqual([]);
  return load(block?.code ?? '') as M;
}

/** As GJSON does, which KEDA uses: names, indexes, and the first element with a value. */
function valueAt(json: unknown, path: string): unknown {
  let at = json;
  for (const [, name = '', key = '', value] of path.matchAll(/#\((\w+)=="([^"]*)"\)|(\w+)/g)) {
    const list = at as readonly Record<string, unknown>[];
    at = value === undefined ? list.find((each) => each[name] === key) : (at as Record<string, unknown>)[value];
  }
  return at;
}

describe('the manifests of the guides', () => {
  afterEach(closeAll);

  it('deploy workers that are given the time to finish, and asked what the recipes answer', async () => {
    const { apiVersion, kind, spec } = await manifest<Deployment>('deployment');
    expect([apiVersion, kind]).toEqual(['apps/v1', 'Deployment']);
    const { template, selector, strategy } = spec;
    expect(template.metadata.labels).toEqual(selector.matchLabels);
    expect(strategy.rollingUpdate).toEqual({ maxSurge: 1, maxUnavailable: 0 });
    expect(template.spec.terminationGracePeriodSeconds * 1000).toBeGreaterThanOrEqual(SHUTDOWN_TIMEOUT + 4_000);
    const recipes = containerFiles(await textOf('recipes'));
    const [recipe] = recipes.statefulSet.spec.template.spec.containers;
    const [container] = template.spec.containers;
    expect(container?.livenessProbe).toEqual(recipe?.livenessProbe);
    expect(container?.readinessProbe).toEqual(recipe?.readinessProbe);
    expect(container?.startupProbe.httpGet).toEqual(recipe?.livenessProbe.httpGet);
    expect(container?.ports).toEqual([{ containerPort: recipe?.livenessProbe.httpGet.port }]);
  });

  it('scale the workers by numbers that the status has', async () => {
    const { apiVersion, kind, spec } = await manifest<ScaledObject>('scaling');
    expect([apiVersion, kind]).toEqual(['keda.sh/v1alpha1', 'ScaledObject']);
    const { metadata } = await manifest<Deployment>('deployment');
    expect(spec.scaleTargetRef).toEqual({ kind: 'Deployment', name: metadata.name });
    expect(spec.maxReplicaCount).toBeGreaterThan(spec.minReplicaCount);
    const [trigger] = spec.triggers;
    const { url = '', valueLocation = '', format, targetValue, activationTargetValue } = trigger?.metadata ?? {};
    expect(trigger?.type).toBe('metrics-api');
    expect(format).toBe('json');
    // KEDA takes strings.
    for (const value of [targetValue, activationTargetValue]) expect(value).toMatch(/^\d+$/);

    const { pathname } = new URL(url);
    const stream = pathname.split('/').at(-1) ?? '';
    const status = await statusOf(stream, pathname);
    expect(valueAt(status, valueLocation)).toBe(3);
    const [, ofGroup = ''] = /`(consumers\.#[^`]+)`/.exec(await textOf('scaling')) ?? [];
    expect(valueAt(status, ofGroup)).toBe(3);
  });
});

/** Three messages that the group `audit` has not committed. */
async function statusOf(stream: string, path: string): Promise<unknown> {
  class Audit {
    @Streaming(stream, { size: 10, group: 'audit' })
    note(_: Window): void {}
  }
  @Module({
    imports: [MinibatchModule.forRoot({ store: memoryStore(), statusController: true })],
    providers: [Audit],
  })
  class App {}
  const app = await NestFactory.create(App, { logger: false, abortOnError: false });
  later(() => app.close());
  await app.listen(0, '127.0.0.1');
  await app.get(StreamService).stream(stream).appendMany([1, 2, 3]);
  const { port } = app.getHttpServer().address() as AddressInfo;
  return (await fetch(`http://127.0.0.1:${port}${path}`)).json();
}
