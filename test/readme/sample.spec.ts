import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StatusSnapshot } from 'nestjs-minibatch';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort } from '../../scripts/servers/free-ports.mjs';
import { closeAll, SOON, uriOf, useDatabase } from '../e2e/support/applications.js';
import { endProcesses, NodeProcess } from '../e2e/support/node-process.js';
import { repository, run, tool } from '../support/workspace.js';
import { blocksOf, FRAMES } from './blocks.js';

/** What the Nest CLI generates for an ESM application. */
const TEMPLATE = repository('node_modules/@nestjs/schematics/dist/lib/application/files/ts-esm/tsconfig.json');
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
describe('the code of the README and the guides', { timeout: 60_000 }, () => {
  let folder: string;
  let errors: readonly string[];

  beforeAll(async () => {
    await mkdir(repository('test/.tmp'), { recursive: true });
    folder = await mkdtemp(repository('test/.tmp/readme-'));
    await mkdir(join(folder, 'src'));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    const config = (await readFile(TEMPLATE, 'utf8')).replace('<%= strict %>', 'true');
    expect(JSON.parse(config)).toMatchObject({ compilerOptions: { strict: true, module: 'nodenext' } });
    await writeFile(join(folder, 'tsconfig.json'), config);
    for (const { code, frame } of blocks) {
      if (frame) await writeFile(join(folder, 'src', `${frame.file}.ts`), `${frame.around(code)}\nexport {};\n`);
    }
    const { stdout } = await run(tool('tsc'), ['-p', 'tsconfig.json', '--pretty', 'false'], { cwd: folder });
    errors = stdout.split('\n').filter((line) => line !== '');
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

  it('has a sample of at most 15 lines', () => {
    const [sample] = blocks;
    expect(sample?.page).toBe('README.md');
    expect(sample?.code.split('\n').length).toBeLessThanOrEqual(15);
    // No line that is none: what a formatter would make two of is one if it reads as one.
    for (const line of sample?.code.split('\n') ?? []) expect(line.length).toBeLessThanOrEqual(120);
  });

  it('has a sample that runs as it stands there, tells its status, and stops cleanly', async () => {
    const database = useDatabase();
    const port = await freePort();
    const env = { MONGODB_URI: uriOf(database), PORT: String(port), NO_COLOR: '1', MINIBATCH_CONSUMERS: undefined };
    const app = new NodeProcess(built('sample'), [], { cwd: folder, env });
    await app.line(/^1 flights, worst delay 25 minutes$/);

    const response = await fetch(`http://127.0.0.1:${port}/minibatch`);
    expect(response.headers.get('content-type')).toContain('application/json');
    expect((await response.json()) as StatusSnapshot).toMatchObject({
      store: { name: 'mongoose' },
      streams: [{ name: 'flights', consumers: [{ group: 'default', local: { label: 'FlightReport.report' } }] }],
    });

    const { db } = await database.connect();
    const left = () => db?.collection('buffer').countDocuments();
    await vi.waitUntil(async () => (await left()) === 0, SOON);
    // As Nest ends a process that has been told to: it does its work, and then lets the signal have it.
    await expect(app.kill('SIGTERM')).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    expect(app.output).toMatch(/stopped: \d+ windows drained, 0 abandoned/);
    // That anybody can read its status is the one thing to warn about.
    const complaints = app.output.split('\n').filter((line) => /WARN|ERROR/.test(line));
    expect(complaints).toEqual([expect.stringContaining('GET /minibatch tells everybody')]);
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
