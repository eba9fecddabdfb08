import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase } from '../support/mongo-server.js';
import { blocksOf } from '../readme/blocks.js';
import { repository, run, succeed, temporaryFolder } from '../support/workspace.js';

type Module = 'cjs' | 'esm';
type Store = 'lmdb' | 'mongodb';

/** One application: how it is compiled, where its streams are, and which Node runs it. */
interface Build {
  readonly module: Module;
  readonly builder: 'tsc' | 'swc' | 'webpack' | 'rspack';
  readonly store: Store;
}

/** Versions that go together. */
interface Mongoose {
  readonly mongoose: string;
  /** Of @nestjs/mongoose, which takes Mongoose 9 from 11.0.4 on. */
  readonly nestMongoose: string;
  /** The major version that Mongoose uses. */
  readonly bson: 6 | 7;
}

interface Line {
  readonly nest: 10 | 11 | 12;
  readonly mongooses: readonly Mongoose[];
  /** Its compiler options, as `nest new` of that version writes them, with the module format of CommonJS applications. */
  readonly compilerOptions: Readonly<Record<string, unknown>>;
  readonly builds: readonly Build[];
  readonly runners: readonly ('jest' | 'vitest')[];
}

/** All of it by `npm run test:matrix`; otherwise at least one of each kind. */
const ALL = process.env['MINIBATCH_MATRIX'] === 'all';
/** Next to the one that runs the tests. */
const NODES = ALL ? ['22', '24'] : [];

const COMMON = {
  declaration: true,
  removeComments: true,
  emitDecoratorMetadata: true,
  experimentalDecorators: true,
  esModuleInterop: true,
  sourceMap: true,
  outDir: './dist',
  rootDir: './src',
  skipLibCheck: true,
  types: ['node'],
};
const NODE10 = { ...COMMON, module: 'commonjs', moduleResolution: 'node10', target: 'ES2021' };
const NODENEXT = {
  ...COMMON,
  module: 'nodenext',
  moduleResolution: 'nodenext',
  target: 'ES2023',
  isolatedModules: true,
};

const EVERY_BUILD: readonly Build[] = (['lmdb', 'mongodb'] as const).flatMap((store) => [
  { module: 'cjs', builder: 'tsc', store },
  { module: 'cjs', builder: 'swc', store },
  { module: 'cjs', builder: 'webpack', store },
  { module: 'esm', builder: 'tsc', store },
]);
/** Its CLI takes rspack for webpack, and compiles ES modules by each builder but webpack. */
const NEST_12_BUILDS: readonly Build[] = (['lmdb', 'mongodb'] as const).flatMap((store) => [
  { module: 'cjs', builder: 'rspack', store },
  { module: 'esm', builder: 'swc', store },
  { module: 'esm', builder: 'rspack', store },
]);

const MONGOOSE_8: Mongoose = { mongoose: '8.24.10', nestMongoose: '10.1.0', bson: 6 };
const MONGOOSE_9: Mongoose = { mongoose: '9.12.1', nestMongoose: '11.0.4', bson: 7 };

const LINES: readonly Line[] = [
  {
    nest: 10,
    mongooses: ALL ? [MONGOOSE_8, MONGOOSE_9] : [MONGOOSE_8],
    compilerOptions: NODE10,
    builds: ALL
      ? EVERY_BUILD
      : [
          { module: 'cjs', builder: 'tsc', store: 'lmdb' },
          { module: 'cjs', builder: 'tsc', store: 'mongodb' },
        ],
    runners: ['jest'],
  },
  {
    nest: 11,
    mongooses: [MONGOOSE_9],
    compilerOptions: NODENEXT,
    builds: ALL
      ? EVERY_BUILD
      : [
          { module: 'cjs', builder: 'swc', store: 'lmdb' },
          { module: 'cjs', builder: 'webpack', store: 'mongodb' },
        ],
    runners: ALL ? ['jest', 'vitest'] : ['vitest'],
  },
  // Nest 12's own applications, ESM and CommonJS by tsc, are in packed.spec.ts.
  ...(ALL
    ? [
        {
          nest: 12,
          mongooses: [{ ...MONGOOSE_9, nestMongoose: '12.0.0' }],
          compilerOptions: NODENEXT,
          builds: [...EVERY_BUILD, ...NEST_12_BUILDS],
          runners: ['vitest', 'jest'],
        } as const,
      ]
    : []),
];

const FIXTURES = repository('test/fixtures/nest-apps');
/** What the application prints at its end. */
const REPORT = '{"flights":3,"worst":25,"status":200,"streams":["flights"]}\n';

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let tarball: string;

beforeAll(async () => {
  folder = await temporaryFolder();
  const args = ['pack', '--silent', '--pack-destination', folder.path];
  const output = await succeed('npm', args, { cwd: repository('libs/minibatch') });
  tarball = join(folder.path, output.trim().split('\n').at(-1) ?? '');
}, 300_000);

afterAll(async () => await folder.dispose());

async function npmInstall(cwd: string, ...packages: readonly string[]): Promise<void> {
  await succeed('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', ...packages], { cwd });
}

/** The binary of another version of Node, from its package on npm. */
async function nodeOf(version: string): Promise<string> {
  const path = join(folder.path, `node-${version}`);
  const name = `node-${process.platform}-${process.arch}`;
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'package.json'), '{}');
  await npmInstall(path, `${name}@${version}`);
  return join(path, 'node_modules', name, 'bin/node');
}

/** Writes the sources as such an application has them: CommonJS resolves imports without their extension, too, and Jest only those. */
async function write(path: string, { module, store }: Pick<Build, 'module' | 'store'>): Promise<void> {
  await mkdir(join(path, 'src'), { recursive: true });
  const sources = {
    'app.module.ts': join(FIXTURES, 'src', `${store}.module.ts`),
    'app.spec.ts': join(FIXTURES, 'src/app.test.ts'),
    'flight-report.ts': repository('test/package/app/src/flight-report.ts'),
    'main.ts': join(FIXTURES, 'src/main.ts'),
  };
  for (const [file, source] of Object.entries(sources)) {
    const text = await readFile(source, 'utf8');
    const imports = module === 'esm' ? text : text.replaceAll(/from '(\.\/.*)\.js'/g, "from '$1'");
    await writeFile(join(path, 'src', file), imports);
  }
  const json = (file: string, value: object) => writeFile(join(path, file), JSON.stringify(value));
  await json('package.json', module === 'esm' ? { type: 'module' } : {});
  await json('nest-cli.json', { sourceRoot: 'src', compilerOptions: { deleteOutDir: true } });
}

async function writeTsconfig(path: string, compilerOptions: object): Promise<void> {
  await writeFile(join(path, 'tsconfig.json'), JSON.stringify({ compilerOptions }));
  const build = { extends: './tsconfig.json', include: ['src'], exclude: ['**/*.spec.ts'] };
  await writeFile(join(path, 'tsconfig.build.json'), JSON.stringify(build));
}

/** Calls with the URI of an empty database. */
async function inDatabase(use: (uri: string) => Promise<void>): Promise<void> {
  const database = openDatabase();
  try {
    await use(database.uri.replace(/\/?(\?|$)/, `/${database.name}$1`));
  } finally {
    await database.dispose();
  }
}

async function blocks(page: string, language?: string): Promise<readonly string[]> {
  return blocksOf(await readFile(repository(page), 'utf8'), language).map(({ code }) => code);
}

/** What `nest new` writes, with the settings of our documentation. */
async function jestSettings(module: Module): Promise<object> {
  const generated = {
    moduleFileExtensions: ['js', 'json', 'ts'],
    rootDir: 'src',
    testRegex: '.*\\.spec\\.ts$',
    testEnvironment: 'node',
    testTimeout: 120_000,
  };
  const [settings = ''] = await blocks(`docs/guides/${module === 'cjs' ? 'versions' : 'recipes'}.md`, 'json');
  return { ...generated, ...(JSON.parse(settings) as object) };
}

/** The test of our documentation. */
async function recipe(runner: 'jest' | 'vitest'): Promise<string> {
  const code =
    (await blocks('docs/guides/recipes.md')).find((block) => block.includes("from 'vitest'; // Jest:")) ?? '';
  expect(code).toContain("it('reports the worst delay'");
  return runner === 'jest' ? code.replace("from 'vitest'; // Jest: '@jest/globals'", "from '@jest/globals'") : code;
}

describe.each(LINES)('the packed package in Nest $nest', { timeout: 600_000 }, (line) => {
  let app: string;
  const bin = (name: string) => join(app, 'node_modules/.bin', name);
  const nodes: string[] = [process.execPath];

  beforeAll(async () => {
    app = join(folder.path, `nest-${line.nest}`);
    await cp(join(FIXTURES, `nest-${line.nest}`), app, { recursive: true });
    await npmInstall(app, tarball);
    for (const version of NODES) nodes.push(await nodeOf(version));
  }, 600_000);

  /** `versions`: of what it is built with, if it is built with several. */
  async function build({ module, builder, store }: Build, versions = ''): Promise<string> {
    const path = join(app, `${module}-${builder}-${store}${versions}`);
    await write(path, { module, store });
    await writeTsconfig(path, module === 'esm' ? NODENEXT : line.compilerOptions);
    // webpack leaves out what it finds in the node_modules beside the sources.
    await symlink(join(app, 'node_modules'), join(path, 'node_modules'));
    await succeed(bin('nest'), ['build', '--builder', builder], { cwd: path });
    return path;
  }

  async function start(node: string, path: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
    const result = await run(node, ['dist/main.js'], { cwd: path, env });
    // Older versions of Node say that require(esm) is an experiment.
    const stderr = result.stderr.replace(/^\(node:\d+\) ExperimentalWarning: .*\n\(Use .*\n/gm, '');
    expect({ ...result, stderr }).toEqual({ exitCode: 0, stdout: REPORT, stderr: '' });
  }

  // In this order: the first ones run where nothing of MongoDB is installed.
  it.each(line.builds.filter(({ store }) => store === 'lmdb'))(
    'keeps streams in LMDB, without mongoose: $module by $builder',
    async (choice) => {
      const path = await build(choice);
      for (const node of nodes) await start(node, path);
    },
  );

  it.each(line.runners)('is tested by %s', async (runner) => {
    const module = runner === 'jest' && line.nest < 12 ? 'cjs' : 'esm';
    const path = join(app, runner);
    await write(path, { module, store: 'lmdb' });
    await writeTsconfig(path, module === 'esm' ? NODENEXT : line.compilerOptions);
    await writeFile(join(path, 'src/recipe.spec.ts'), await recipe(runner));
    if (runner === 'jest') await writeFile(join(path, 'jest.config.json'), JSON.stringify(await jestSettings(module)));
    const args = runner === 'jest' ? [] : ['run', '--globals', '--testTimeout=120000', '--root', path];
    const options = runner === 'jest' && module === 'esm' ? { NODE_OPTIONS: '--experimental-vm-modules' } : {};
    const { exitCode, stdout, stderr } = await run(bin(runner), args, {
      cwd: path,
      env: { NO_COLOR: '1', FORCE_COLOR: '0', ...options },
    });
    expect(exitCode, stdout + stderr).toBe(0);
    expect(stdout + stderr).toMatch(/Tests:?\s+2 passed/);
  });

  const inMongo = line.builds.filter(({ store }) => store === 'mongodb');
  if (inMongo.length === 0) return;

  describe.each(line.mongooses)('with mongoose $mongoose', ({ mongoose, nestMongoose, bson }) => {
    beforeAll(
      () => npmInstall(app, `mongoose@${mongoose}`, `@nestjs/mongoose@${nestMongoose}`, `bson@${bson}`),
      600_000,
    );

    it.each(inMongo)('keeps streams in MongoDB: $module by $builder', async (choice) => {
      const path = await build(choice, `-${mongoose}`);
      for (const node of nodes) {
        await inDatabase((MONGODB_URI) => start(node, path, { MONGODB_URI }));
      }
    });

    // All other tests of this repository are on Mongoose 9.
    if (!ALL && bson !== 6) return;
    it('keeps what all stores promise', async () => {
      await cp(join(FIXTURES, 'contract.mjs'), join(app, 'contract.mjs'));
      await inDatabase(async (MONGODB_URI) => {
        const { exitCode, stdout, stderr } = await run(
          process.execPath,
          ['--test', '--test-reporter=tap', 'contract.mjs'],
          {
            cwd: app,
            env: { MONGODB_URI },
          },
        );
        expect(exitCode, stdout + stderr).toBe(0);
        expect(Number(/^# pass (\d+)$/m.exec(stdout)?.[1])).toBeGreaterThan(150);
      });
    });
  });
});
