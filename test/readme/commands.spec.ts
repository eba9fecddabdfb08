import { access, readdir, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';
import { allBlocksOf } from './blocks.js';

interface Manifest {
  readonly scripts: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

/** Which tests run the blocks that are neither TypeScript nor commands; `text` is for people. */
const RUN_ELSEWHERE: Readonly<Record<string, string>> = {
  'docs/guides/deployment.md yaml': 'test/readme/deployment.spec.ts',
  'docs/guides/postgres.md sql': 'libs/minibatch/src/storage/postgres/migrations.spec.ts',
  'docs/guides/recipes.md dockerfile': 'test/readme/recipes.spec.ts',
  'docs/guides/recipes.md json': 'test/package/matrix.spec.ts',
  'docs/guides/recipes.md yaml': 'test/readme/recipes.spec.ts',
  'docs/guides/scaling.md yaml': 'test/readme/deployment.spec.ts',
  'docs/guides/versions.md json': 'test/package/matrix.spec.ts',
  'docs/python.md js': 'test/python/shared-database.spec.ts',
};

const manifest = async (path: string) => JSON.parse(await readFile(repository(path), 'utf8')) as Manifest;
const { scripts } = await manifest('package.json');
const { peerDependencies, dependencies } = await manifest('libs/minibatch/package.json');
const examples = await readdir(repository('examples'));
const docs = (await readdir(repository('docs'), { recursive: true })).filter((page) => page.endsWith('.md'));
const pages = ['README.md', 'CONTRIBUTING.md', ...docs.map((page) => `docs/${page}`)];
const blocks = await Promise.all(
  pages.map(async (page) =>
    allBlocksOf(await readFile(repository(page), 'utf8')).map((block) => Object.assign(block, { page })),
  ),
).then((found) => found.flat());

const commands = blocks
  .filter(({ language }) => language === 'sh')
  .flatMap(({ page, code }) =>
    code.split('\n').flatMap((line) =>
      line
        .replace(/(^|\s)#.*$/, '')
        .split('&&')
        .map((command) => ({ page, command: command.trim() })),
    ),
  )
  .filter(({ command }) => command !== '');

const isThere = (path: string) =>
  access(repository(path)).then(
    () => true,
    () => false,
  );

/** What is wrong with a command that a reader may paste; undefined if nothing is. */
async function mistakeIn(command: string): Promise<string | undefined> {
  const [program = '', action = '', ...args] = command.split(/\s+/);
  if (program === 'docker') return action === 'run' ? undefined : 'unknown';
  // Its script would have to be parsed.
  if (program === 'node' && action === '-e') return undefined;
  if (program === 'node') return (await isThere(action)) ? undefined : `no file ${action}`;
  if (program === 'npx') return action === 'vitest' ? undefined : 'unknown';
  if (program !== 'npm') return 'unknown';
  if (action === 'ci') return undefined;
  if (action === 'install') {
    const known = { ...peerDependencies, ...dependencies, 'nestjs-minibatch': '' };
    return args.find((name) => !(name.replace(/@\d+$/, '') in known));
  }
  const script = action === 'run' ? (args[0] ?? '') : action;
  if (!(script in scripts)) return `no script ${script}`;
  if (script === 'example' && !examples.includes(args[1] ?? '')) return `no example ${args[1]}`;
  return undefined;
}

describe('the blocks of the documentation', () => {
  it('are in languages that a test runs', async () => {
    const found = blocks
      .filter(({ language }) => !['ts', 'sh', 'text'].includes(language))
      .map(({ page, language }) => `${page} ${language}`);
    expect([...new Set(found)].toSorted()).toEqual(Object.keys(RUN_ELSEWHERE).toSorted());
    for (const spec of Object.values(RUN_ELSEWHERE)) expect(await isThere(spec)).toBe(true);
  });

  it.each(commands)('have commands that exist: $page, $command', async ({ command }) => {
    expect(await mistakeIn(command)).toBeUndefined();
  });

  it.each(blocks.filter(({ language }) => language === 'json'))('are JSON: $page, line $line', ({ code }) => {
    expect(() => JSON.parse(code) as unknown).not.toThrow();
  });

  it('would show a command that is not there', async () => {
    expect(await mistakeIn('npm run exmaple kafka')).toBe('no script exmaple');
    expect(await mistakeIn('npm run example kafak')).toBe('no example kafak');
    expect(await mistakeIn('npm install nestjs-minibatch kafka-js')).toBe('kafka-js');
    expect(await mistakeIn('node bench/run.mts')).toBe('no file bench/run.mts');
  });
});
