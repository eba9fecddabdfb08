import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { closeAll, uriOf, useDatabase } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository } from '../support/workspace.js';
import { blocksOf, FRAMES } from './blocks.js';
import { compile, reportsFlights } from './pasted-application.js';

const blocks = await Promise.all(
  Object.entries(FRAMES).map(async ([page, frames]) =>
    blocksOf(await readFile(repository(page), 'utf8')).map((block, place) => ({
      ...block,
      page,
      frame: frames[place],
    })),
  ),
).then((pages) => pages.flat());

/** A folder inside of the workspace, so that packages resolve as in an application. */
describe('the code of the README and the guides', { timeout: 120_000 }, () => {
  let folder: string;
  let errors: readonly string[];

  beforeAll(async () => {
    await mkdir(repository('test/.tmp'), { recursive: true });
    folder = await mkdtemp(repository('test/.tmp/readme-'));
    await mkdir(join(folder, 'src'));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    const sources = blocks.flatMap(({ code, frame }) =>
      frame ? [[frame.file, `${frame.around(code)}\nexport {};\n`] as const] : [],
    );
    errors = await compile(folder, Object.fromEntries(sources));
  }, 120_000);

  afterAll(() => rm(folder, { recursive: true, force: true }));
  afterEach(async () => {
    await endProcesses();
    await closeAll();
  });

  const built = (file: string) => join(folder, 'dist/src', `${file}.js`);

  it.each(blocks)('compiles in a fresh strict application: $page, line $line', ({ page, frame }) => {
    if (!frame) throw new Error(`test/readme/blocks.ts has no frame for this block of ${page}`);
    expect(errors.filter((line) => line.startsWith(`src/${frame.file}.ts`))).toEqual([]);
  });

  it.each(Object.entries(FRAMES))('has no frame without a block: %s', (page, frames) => {
    expect(frames).toHaveLength(blocks.filter((block) => block.page === page).length);
  });

  it('compiles as a whole', () => {
    expect(errors).toEqual([]);
  });

  it('is short, with the two commands that CI runs', async () => {
    const text = await readFile(repository('README.md'), 'utf8');
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(9_000);
    for (const command of ['npm ci && npm start', 'npm ci && npm test'])
      expect(text).toMatch(new RegExp(`^${command} `, 'm'));
  });

  it('has a sample of at most 16 lines', () => {
    const [sample] = blocks;
    expect(sample?.page).toBe('README.md');
    expect(sample?.code.split('\n').length).toBeLessThanOrEqual(16);
    // No line that is none: what a formatter would make two of is one if it reads as one.
    for (const line of sample?.code.split('\n') ?? []) expect(line.length).toBeLessThanOrEqual(120);
  });

  it('has a sample that runs as it stands there, without a server, tells its status, and stops cleanly', async () => {
    await reportsFlights(built('sample'), 'lmdb', { cwd: folder });
  });

  it('has a sample that runs on MongoDB with the imports that stand below it', async () => {
    const [sample, imports] = blocks.filter(({ page }) => page === 'README.md').map(({ code }) => code);
    const [mongoose = '', , list = ''] = (imports ?? '').split('\n');
    const code = (sample ?? '')
      .replace(/^import .*\/lmdb';$/m, mongoose)
      .replace(/^const imports = .*$/m, list.replace('export ', ''));
    expect(code).toContain('MongooseModule.forRoot(');
    await compile(folder, { 'sample-mongo': code });
    await reportsFlights(built('sample-mongo'), 'mongoose', {
      cwd: folder,
      env: { MONGODB_URI: uriOf(useDatabase()) },
    });
  });

  it('has a sample, and recipes, that are CommonJS where the application is', async () => {
    const common = await mkdtemp(repository('test/.tmp/commonjs-'));
    try {
      await mkdir(join(common, 'src'));
      await writeFile(join(common, 'package.json'), '{}');
      const recipes = blocksOf(await readFile(repository('docs/guides/recipes.md'), 'utf8'));
      expect(recipes.length).toBeGreaterThan(5);
      const sources = [blocks[0], blocks[1], ...recipes].map((block, index) => [`block-${index}`, block?.code ?? '']);
      expect(await compile(common, Object.fromEntries(sources) as Record<string, string>)).toEqual([]);
      const file = join(common, 'dist/src/block-0.js');
      expect(await readFile(file, 'utf8')).toContain('require("nestjs-minibatch")');
      await reportsFlights(file, 'lmdb', { cwd: common });
    } finally {
      await rm(common, { recursive: true, force: true });
    }
  });

  it('has a script without Nest that runs', async () => {
    const database = useDatabase();
    const script = new NodeProcess(built('client'), [], { cwd: folder, env: { MONGODB_URI: uriOf(database) } });
    await script.success();
    const { db } = await database.connect();
    const stored = await db?.collection('buffer').find().toArray();
    expect(stored).toMatchObject([{ stream: 'flights', data: { origin: 'SAT', delay: 25 } }]);
  });

  it.each([
    ['testing', /^tested$/],
    ['testing-failures', /^failures tested$/],
  ])('has a test that passes: %s', async (file, line) => {
    const script = new NodeProcess(built(file), [], { cwd: folder, env: { NO_COLOR: '1' } });
    await script.line(line);
    await script.success();
  });
});
