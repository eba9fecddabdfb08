import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { copyWorkspace, linkDependencies, repository, run, temporaryFolder, tool } from '../support/workspace.js';

interface Planted {
  readonly rule: string;
  /** The files to plant under libs/minibatch/src, each with what it imports; the first is the one to be reported. */
  readonly files: Readonly<Record<string, readonly string[]>>;
}

const PLANTED: readonly Planted[] = [
  {
    rule: 'no-cycles',
    files: { 'streams/planted-a.ts': ['./planted-b.js'], 'streams/planted-b.ts': ['./planted-a.js'] },
  },
  {
    rule: 'no-folder-cycles',
    files: {
      'sources/planted-cycle.ts': ['../streams/planted-cycle.js'],
      'streams/planted-cycle.ts': ['../sources/source.interface.js'],
    },
  },
  { rule: 'no-folder-cycles', files: { 'common/planted-port.ts': ['../storage/stream-store.interface.js'] } },
  { rule: 'no-folder-cycles', files: { 'definitions/planted-root.ts': ['../minibatch.options.js'] } },
  {
    rule: 'every-folder-has-its-layer',
    files: { 'status/planted-folder.ts': ['../planted/planted.js'], 'planted/planted.ts': [] },
  },
  {
    rule: 'nothing-published-imports-specs',
    files: {
      'engine/planted-support.ts': ['./planted.spec.support.js'],
      'engine/planted.spec.support.ts': ['mongoose'],
    },
  },
  { rule: 'errors-import-nothing', files: { 'errors/planted.ts': ['node:os'] } },
  { rule: 'windows-are-pure', files: { 'windows/planted-clock.ts': ['../common/clock.js'] } },
  { rule: 'windows-are-pure', files: { 'windows/planted-io.ts': ['node:fs'] } },
  { rule: 'flow-is-pure', files: { 'flow/planted-engine.ts': ['../engine/engine.interface.js'] } },
  { rule: 'flow-is-pure', files: { 'flow/planted-io.ts': ['node:fs'] } },
  { rule: 'engine-imports-ports', files: { 'engine/planted-nest.ts': ['@nestjs/common'] } },
  { rule: 'engine-imports-ports', files: { 'engine/planted-mongoose.ts': ['mongoose'] } },
  {
    rule: 'engine-imports-ports',
    files: { 'engine/planted-adapter.ts': ['../executors/planted.executor.js'], 'executors/planted.executor.ts': [] },
  },
  {
    rule: 'engine-reaches-no-framework',
    files: {
      'engine/planted-detour.ts': ['../common/planted-detour.js'],
      'common/planted-detour.ts': ['mongoose'],
    },
  },
  {
    rule: 'client-reaches-no-nest',
    files: { 'client/planted.ts': ['../streams/planted-nest.js'], 'streams/planted-nest.ts': ['@nestjs/common'] },
  },
  {
    rule: 'common-knows-no-feature',
    files: { 'common/planted.ts': ['../consumers/planted.js'], 'consumers/planted.ts': [] },
  },
  {
    rule: 'ports-know-no-adapter',
    files: { 'sinks/planted.interface.ts': ['./planted/planted.sink.js'], 'sinks/planted/planted.sink.ts': [] },
  },
  {
    rule: 'adapters-import-their-port',
    files: { 'storage/planted-c/planted.store.ts': ['../../status/planted.js'], 'status/planted.ts': [] },
  },
  {
    rule: 'adapters-never-import-each-other',
    files: {
      'storage/planted-a/planted.store.ts': ['../planted-b/planted.store.js'],
      'storage/planted-b/planted.store.ts': [],
    },
  },
  {
    rule: 'datasets-are-collections',
    files: {
      'adapters/omegaml/planted.ts': ['../collection/planted.js'],
      'adapters/collection/planted.ts': [],
    },
  },
  {
    rule: 'adapters-are-wired-in-one-place',
    files: { 'consumers/planted-store.ts': ['../storage/planted-b/planted.store.js'] },
  },
  {
    rule: 'engine-is-wired-in-one-place',
    files: { 'status/planted-engine.ts': ['../engine/planted.js'], 'engine/planted.ts': [] },
  },
  {
    rule: 'nobody-imports-the-wiring',
    files: { 'status/planted-module.ts': ['../minibatch.module.js'], 'minibatch.module.ts': [] },
  },
  { rule: 'nobody-imports-the-package', files: { 'status/planted-index.ts': ['../index.js'] } },
  { rule: 'nobody-imports-the-package', files: { 'status/planted-self.ts': ['nestjs-minibatch'] } },
  ...[
    { name: 'lmdb', file: 'storage/mongoose/planted-lmdb.ts' },
    { name: 'pg', file: 'storage/mongoose/planted-pg.ts' },
    { name: 'kafkajs', file: 'adapters/mqtt/planted-kafka.ts' },
    { name: 'mqtt', file: 'adapters/kafka/planted-mqtt.ts' },
    { name: 'ioredis', file: 'executors/planted-redis.ts' },
    { name: 'amqplib', file: 'adapters/kafka/planted-amqp.ts' },
    { name: 'bullmq', file: 'executors/planted-bullmq.ts' },
    { name: '@nestjs/microservices', file: 'sinks/planted-microservices.ts' },
  ].map(({ name, file }) => ({
    rule: `${name.replace(/^@/, '').replace('/', '-')}-stays-in-its-adapter`,
    files: { [file]: [name] },
  })),
  { rule: 'mongoose-stays-where-mongodb-is', files: { 'status/planted-mongoose.ts': ['mongoose'] } },
  { rule: 'mongoose-stays-where-mongodb-is', files: { 'storage/postgres/planted-mongoose.ts': ['mongoose'] } },
  { rule: 'adapters-take-types-of-mongoose', files: { 'adapters/omegaml/planted-mongoose.ts': ['mongoose'] } },
  {
    rule: 'main-entry-reaches-no-optional-peer',
    files: { 'index.ts': ['./storage/lmdb/planted.js'], 'storage/lmdb/planted.ts': ['lmdb'] },
  },
  { rule: 'only-declared-packages', files: { 'status/planted-package.ts': ['vega-datasets'] } },
  { rule: 'no-unresolvable', files: { 'status/planted-nothing.ts': ['./there-is-no-such-file.js'] } },
];

/** Allowed, however near to what is not. */
const INNOCENT: Readonly<Record<string, readonly string[]>> = {
  'windows/innocent.ts': ['node:crypto', '../errors/minibatch.error.js'],
  'engine/innocent.ts': ['node:events', '../storage/stream-store.interface.js', '../common/clock.js'],
  'engine/innocent.spec.ts': ['../storage/planted-a/planted.store.js', 'fast-check'],
  'storage/planted-a/innocent.ts': ['./planted.store.js', '../stream-store.interface.js'],
  'storage/mongoose/innocent.ts': ['../stream-store.interface.js', 'mongoose'],
  'storage/lmdb/innocent.ts': ['lmdb', 'bson'],
  'adapters/omegaml/innocent.ts': ['../collection/collection.source.js', '../collection/collection-sink.options.js'],
  'adapters/celery/innocent.ts': ['ioredis', 'amqplib', '../../sources/source.interface.js'],
  'status/innocent.ts': ['@nestjs/common', '../engine/engine.interface.js'],
};

interface Violation {
  readonly rule: { readonly name: string };
  readonly from: string;
}

describe('npm run check:deps', () => {
  const config = repository('.dependency-cruiser.cjs');
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let reported: readonly string[];

  beforeAll(async () => {
    folder = await temporaryFolder();
    await copyWorkspace(folder.path, ['libs/minibatch', 'tsconfig.json', 'package.json']);
    await linkDependencies(folder.path, { 'nestjs-minibatch': 'libs/minibatch' });
    const files = Object.assign({}, INNOCENT, ...PLANTED.map((planted) => planted.files)) as typeof INNOCENT;
    for (const [file, imports] of Object.entries(files)) {
      const path = join(folder.path, 'libs/minibatch/src', file);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, `${imports.map((name) => `import '${name}';\n`).join('')}export {};\n`);
    }
    // By a file: it does not wait until a pipe has taken all it printed.
    const output = join(folder.path, 'report.json');
    const args = ['libs/minibatch/src', `--config=${config}`, '--output-type=json', `--output-to=${output}`];
    const { stderr } = await run(tool('depcruise'), args, { cwd: folder.path });
    expect(stderr).toBe('');
    const { summary } = JSON.parse(await readFile(output, 'utf8')) as { summary: { violations: readonly Violation[] } };
    reported = summary.violations.map(({ rule, from }) => `${rule.name}: ${from.replace('libs/minibatch/src/', '')}`);
  });

  afterAll(async () => await folder.dispose());

  it.each(PLANTED.map(({ rule, files }) => `${rule}: ${Object.keys(files)[0]}`))('reports %s', (violation) => {
    expect(reported).toContain(violation);
  });

  it('lets through what is allowed', () => {
    expect(reported.filter((violation) => violation.includes('innocent'))).toEqual([]);
  });

  it('has no rule that was not tried', () => {
    const { forbidden } = createRequire(import.meta.url)(config) as { forbidden: readonly { name: string }[] };
    expect(new Set(PLANTED.map(({ rule }) => rule))).toEqual(new Set(forbidden.map(({ name }) => name)));
  });
});
