import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StatusSnapshot } from 'nestjs-minibatch';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort } from '../../scripts/servers/free-ports.mjs';
import { closeAll, SOON, uriOf, useDatabase } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository, run, tool } from '../support/workspace.js';
import { blocksOf, FRAMES } from './blocks.js';

/** What `nest new` of Nest 12 generates for a strict ESM application. */
const TEMPLATE = repository('test/fixtures/nest-apps/nest-12/tsconfig.json');
const blocks = await Promise.all(
  Object.entries(FRAMES).map(async ([page, frames]) =>
    blocksOf(await readFile(repository(page), 'utf8')).map((block, place) => ({
      ...block,
      page,
      frame: frames[place],
    })),
  ),
).then((pages) => pages.flat());

/** Compiles as an application of the folder, whose manifest says of which kind it is. Answers with the errors. */
async function compile(folder: string, sources: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const config = await readFile(TEMPLATE, 'utf8');
  expect(JSON.parse(config)).toMatchObject({ compilerOptions: { strict: true, module: 'nodenext' } });
  await writeFile(join(folder, 'tsconfig.json'), config);
  for (const [file, code] of Object.entries(sources)) await writeFile(join(folder, 'src', `${file}.ts`), code);
  const { stdout } = await run(tool('tsc'), ['-p', 'tsconfig.json', '--pretty', 'false'], { cwd: folder });
  return stdout.split('\n').filter((line) => line !== '');
}

/** A folder inside of the workspace, so that packages resolve as in an application. */
describe('the code of the README and the guides', { timeout: 60_000 }, () => {
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

  /** Waits until its message is reported and gone, and ends it. */
  async function runs(file: string, store: string, env: NodeJS.ProcessEnv, cwd = folder): Promise<void> {
    const port = await freePort();
    const app = new NodeProcess(file, [], {
      cwd,
      env: { PORT: String(port), NO_COLOR: '1', MINIBATCH_CONSUMERS: undefined, ...env },
    });
    await app.line(/^1 flights, worst delay 25 minutes$/);
    const status = async () => {
      const response = await fetch(`http://127.0.0.1:${port}/minibatch`);
      expect(response.headers.get('content-type')).toContain('application/json');
      return (await response.json()) as StatusSnapshot;
    };
    await vi.waitUntil(async () => (await status()).streams[0]?.stored?.buffered === 0, SOON);
    expect(await status()).toMatchObject({
      store: { name: store },
      streams: [{ name: 'flights', consumers: [{ group: 'default', local: { label: 'FlightReport.report' } }] }],
    });
    // As Nest ends a process that has been told to: it does its work, and then lets the signal have it.
    await expect(app.kill('SIGTERM')).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    expect(app.output).toMatch(/stopped: \d+ windows? drained, 0 abandoned/);
    // That anybody can read its status is the one thing to warn about.
    const complaints = app.output.split('\n').filter((line) => /WARN|ERROR/.test(line));
    expect(complaints).toEqual([expect.stringContaining('GET /minibatch tells everybody')]);
  }

  it('has a sample that runs as it stands there, without a server, tells its status, and stops cleanly', async () => {
    await runs(built('sample'), 'lmdb', {});
  });

  it('has a sample that runs on MongoDB with the imports that stand below it', async () => {
    const [sample, imports] = blocks.filter(({ page }) => page === 'README.md').map(({ code }) => code);
    const [mongoose = '', , list = ''] = (imports ?? '').split('\n');
    const code = (sample ?? '')
      .replace(/^import .*\/lmdb';$/m, mongoose)
      .replace(/^const imports = .*$/m, list.replace('export ', ''));
    expect(code).toContain('MongooseModule.forRoot(');
    await compile(folder, { 'sample-mongo': code });
    await runs(built('sample-mongo'), 'mongoose', { MONGODB_URI: uriOf(useDatabase()) });
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
      await runs(file, 'lmdb', {}, common);
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
