import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StatusSnapshot } from 'nestjs-minibatch';
import { expect, vi } from 'vitest';
import { freePort } from '../../scripts/servers/free-ports.mjs';
import { SOON } from '../e2e/support/applications.js';
import { NodeProcess } from '../e2e/support/node-process.js';
import { repository, run, tool } from '../support/workspace.js';

/** What `nest new` of Nest 12 generates for a strict ESM application. */
const TEMPLATE = repository('test/fixtures/nest-apps/nest-12/tsconfig.json');

/** Compiles as an application of the folder, whose manifest says of which kind it is. Answers with the errors. */
export async function compile(folder: string, sources: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const config = await readFile(TEMPLATE, 'utf8');
  expect(JSON.parse(config)).toMatchObject({ compilerOptions: { strict: true, module: 'nodenext' } });
  await writeFile(join(folder, 'tsconfig.json'), config);
  for (const [file, code] of Object.entries(sources)) await writeFile(join(folder, 'src', `${file}.ts`), code);
  const { stdout } = await run(tool('tsc'), ['-p', 'tsconfig.json', '--pretty', 'false'], { cwd: folder });
  return stdout.split('\n').filter((line) => line !== '');
}

/** Starts the README's sample, or one like it; waits until its message is reported and gone, and ends it. */
export async function reportsFlights(
  file: string,
  store: string,
  { cwd, env = {} }: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
): Promise<void> {
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
  // That anybody can read its status is the one thing to warn about. The run's PostgreSQL keeps nothing on disk, and that is named rightly.
  const complaints = app.output
    .split('\n')
    .filter((line) => /WARN|ERROR/.test(line))
    .filter((line) => !line.includes('PostgreSQL has fsync = off'));
  expect(complaints).toEqual([expect.stringContaining('GET /minibatch tells everybody')]);
}
