import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { repository, run, tool } from '../support/workspace.js';

/** What `nest new` of Nest 12 generates for a strict ESM application. */
const TSCONFIG = repository('test/fixtures/nest-apps/nest-12/tsconfig.json');

/** A strict application made of these sources (name without `.ts` to text), inside of the workspace, so that packages resolve. */
export async function compileApplication(sources: Readonly<Record<string, string>>): Promise<readonly string[]> {
  await mkdir(repository('test/.tmp'), { recursive: true });
  const folder = await mkdtemp(repository('test/.tmp/docs-'));
  try {
    await mkdir(join(folder, 'src'));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    await copyFile(TSCONFIG, join(folder, 'tsconfig.json'));
    for (const [file, code] of Object.entries(sources)) await writeFile(join(folder, 'src', `${file}.ts`), code);
    const { stdout } = await run(tool('tsc'), ['-p', 'tsconfig.json', '--noEmit', '--pretty', 'false'], {
      cwd: folder,
    });
    return stdout.split('\n').filter((line) => line !== '');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
