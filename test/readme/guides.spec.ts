import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, later } from '../e2e/support/applications.js';
import { endProcesses } from '../e2e/support/node-process.js';
import { postgresUrl } from '../support/postgres-server.js';
import { repository } from '../support/workspace.js';
import { blocksOf } from './blocks.js';
import { compile, reportsFlights } from './pasted-application.js';

const blocks = async (page: string) => blocksOf(await readFile(repository(page), 'utf8')).map(({ code }) => code);
const [sample = ''] = await blocks('README.md');

/** What a reader changes in a text; it has to be there. */
function changed(text: string, from: string | RegExp, to: string): string {
  expect(text).toMatch(from);
  return text.replace(from, to);
}

/** An empty database, since the guide's store has the default schema. */
async function useOwnDatabase(): Promise<string> {
  const name = `guides_${process.pid}_${Date.now()}`;
  const url = new URL(postgresUrl());
  const run = async (statement: string) => {
    const client = new pg.Client({ connectionString: url.href });
    await client.connect();
    await client.query(statement);
    await client.end();
  };
  await run(`create database ${name}`);
  later(() => run(`drop database ${name} with (force)`));
  const own = new URL(url);
  own.pathname = name;
  return own.href;
}

/** The README's sample, changed as a guide says, in applications of both kinds. */
describe.each(['ES modules', 'CommonJS'])('an application of %s', { timeout: 180_000 }, (kind) => {
  afterEach(async () => {
    await endProcesses();
    await closeAll();
  });

  async function compiled(sources: Readonly<Record<string, string>>): Promise<string> {
    await mkdir(repository('test/.tmp'), { recursive: true });
    const folder = await mkdtemp(repository('test/.tmp/guides-'));
    later(() => rm(folder, { recursive: true, force: true }));
    await mkdir(join(folder, 'src'));
    await writeFile(join(folder, 'package.json'), kind === 'CommonJS' ? '{}' : '{ "type": "module" }');
    expect(await compile(folder, sources)).toEqual([]);
    return folder;
  }

  it('keeps streams in PostgreSQL', async () => {
    const [store = ''] = await blocks('docs/guides/postgres.md');
    const imported = /^import .*postgres';$/m.exec(store)?.[0] ?? '';
    const option = /store: .*(?= }\);$)/m.exec(store)?.[0] ?? '';
    const main = changed(
      changed(sample, /^import .*lmdb';$/m, imported),
      "store: lmdbStore({ path: './data' })",
      option,
    );
    const cwd = await compiled({ main });
    const env = { DATABASE_URL: await useOwnDatabase() };
    await reportsFlights(join(cwd, 'dist/src/main.js'), 'postgres', { cwd, env });
  });

  it('runs methods in threads', async () => {
    const page = await blocks('docs/guides/executors.md');
    const module = page.find((code) => code.includes('executor: threads(')) ?? '';
    const worker = page.find((code) => code.includes('runMinibatchWorker(')) ?? '';
    const lines = sample.split('\n');
    const place = (start: string) => lines.findIndex((line) => line.startsWith(start));
    const imports = lines.slice(0, place('class FlightReport'));
    const method = lines.slice(place('class FlightReport'), place('const imports'));
    const boot = lines.slice(place('void NestFactory'));
    const executor =
      kind === 'CommonJS'
        ? changed(module, "new URL('./worker.js', import.meta.url)", "require.resolve('./worker')")
        : module;
    const store = "store: lmdbStore({ path: './data' }), statusController: true, executor:";
    const cwd = await compiled({
      'flight-report': [...imports, `export ${method.join('\n')}`].join('\n'),
      'app.module': `${imports.find((line) => line.includes('lmdb'))}\n${changed(executor, 'executor:', store)}`,
      worker,
      main: [...imports, "import { AppModule } from './app.module.js';", ...boot].join('\n'),
    });
    await reportsFlights(join(cwd, 'dist/src/main.js'), 'lmdb', { cwd });
  });
});
