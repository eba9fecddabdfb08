import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { blocksOf, type Frame } from '../../readme/blocks.js';
import { repository, run, tool } from '../../support/workspace.js';

/** What `nest new` of Nest 12 generates for a strict ESM application. */
const TEMPLATE = repository('test/fixtures/nest-apps/nest-12/tsconfig.json');

/** The TypeScript of a page, as an application. */
export interface CompiledPage {
  /** Blocks that have no frame, or the reverse. */
  readonly unframed: number;
  readonly errors: readonly string[];
  /** Where a block's file was compiled to. */
  built(file: string): string;
  dispose(): Promise<void>;
}

/** Compiles the blocks of a page of docs/adapters in a fresh strict application, each in its frame. */
export async function compilePage(page: string, frames: readonly Frame[]): Promise<CompiledPage> {
  const blocks = blocksOf(await readFile(repository('docs/adapters', page), 'utf8'));
  await mkdir(repository('test/.tmp'), { recursive: true });
  const folder = await mkdtemp(repository('test/.tmp/docs-'));
  await mkdir(join(folder, 'src'));
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
  await writeFile(join(folder, 'tsconfig.json'), await readFile(TEMPLATE, 'utf8'));
  for (const [index, { file, around }] of frames.entries()) {
    const code = blocks[index]?.code ?? '';
    await writeFile(join(folder, 'src', `${file}.ts`), `${around(code)}\nexport {};\n`);
  }
  const { stdout } = await run(tool('tsc'), ['-p', 'tsconfig.json', '--pretty', 'false'], { cwd: folder });
  return {
    unframed: blocks.length - frames.length,
    errors: stdout.split('\n').filter((line) => line !== ''),
    built: (file) => join(folder, 'dist/src', `${file}.js`),
    dispose: () => rm(folder, { recursive: true, force: true }),
  };
}
