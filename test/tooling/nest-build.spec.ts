import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { copyWorkspace, linkDependencies, repository, succeed, temporaryFolder, tool } from '../support/workspace.js';

interface NestCli {
  readonly monorepo: boolean;
  readonly projects: Readonly<
    Record<string, { readonly root: string; readonly compilerOptions: { readonly builder: string } }>
  >;
}

/** In a copy, so that no other test finds a half-written dist. */
describe('nest build', { timeout: 300_000 }, () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;

  beforeAll(async () => {
    folder = await temporaryFolder();
    await copyWorkspace(folder.path, [
      'libs/minibatch',
      'apps/example',
      'nest-cli.json',
      'package.json',
      'tsconfig.json',
    ]);
    await linkDependencies(folder.path, { 'nestjs-minibatch': 'libs/minibatch', example: 'apps/example' });
  });

  afterAll(async () => await folder.dispose());

  it('is set up for both projects of the monorepo, with the builder said on purpose', async () => {
    const cli = JSON.parse(await readFile(repository('nest-cli.json'), 'utf8')) as NestCli;
    expect(cli.monorepo).toBe(true);
    const projects = Object.entries(cli.projects).map(([name, project]) => ({
      name,
      root: project.root,
      builder: project.compilerOptions.builder,
    }));
    expect(projects).toEqual([
      { name: 'example', root: 'apps/example', builder: 'tsc' },
      { name: 'minibatch', root: 'libs/minibatch', builder: 'tsc' },
    ]);
  });

  it('writes the library and, on top of it, the example', async () => {
    await succeed(tool('nest'), ['build', 'minibatch'], { cwd: folder.path });
    await access(join(folder.path, 'libs/minibatch/dist/index.js'));
    await access(join(folder.path, 'libs/minibatch/dist/index.d.ts'));
    await succeed(tool('nest'), ['build', 'example'], { cwd: folder.path });
    await access(join(folder.path, 'apps/example/dist/main.js'));
  });
});
