import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const PACKAGE = new URL('libs/minibatch/', import.meta.url);

/** Each entry of the package as its source, so that an edit needs no build to be tested: `nestjs-minibatch/lmdb` and so on. */
function sources(): { find: RegExp; replacement: string }[] {
  const { name, exports } = JSON.parse(readFileSync(new URL('package.json', PACKAGE), 'utf8')) as {
    name: string;
    exports: Record<string, string | { default: string }>;
  };
  return Object.entries(exports).flatMap(([path, target]) => {
    if (typeof target === 'string') return [];
    const source = target.default.replace(/^\.\/dist\//, 'src/').replace(/\.js$/, '.ts');
    return [{ find: new RegExp(`^${name}${path.slice(1)}$`), replacement: fileURLToPath(new URL(source, PACKAGE)) }];
  });
}

// In the tests' own processes. What they start as a process of its own, compile or pack uses the package as built.
const resolve = { alias: sources() };
const common = {
  runner: fileURLToPath(new URL('test/support/runner.ts', import.meta.url)),
  setupFiles: ['reflect-metadata', 'test/support/stuck-test.mjs'],
  testTimeout: 60_000,
  hookTimeout: 120_000,
};

/**
 * What runs once more with a replica set as the run's MongoDB: the store, and what applications see of it. Without what would take
 * minutes on a slow server and asks nothing new of it.
 */
const REPLICA_SET = {
  include: ['libs/minibatch/src/storage/mongoose/*.spec.ts', 'test/e2e/{dropped,mongoose-setups}.spec.ts'],
  // `many-consumers` drops 13,000 documents; while another connection reads, that blocks SecantusDB for minutes.
  exclude: [
    '**/{durability,group-commits,inspection,many-consumers,mark-delay,message-ids,redrive,turn-batch}.spec.ts',
  ],
};

/** What a spec imports or names that uses more than Node and the sources: a server, or the package as built. */
const NEEDS_MORE = /support\/(mongo|postgres)|scripts\/servers\/|test\/fixtures\//;

/** Itself, or by a file that supports several specs; one that names the variable leaves the servers out. */
function needsMore(file: URL): boolean {
  const text = readFileSync(file, 'utf8');
  if (NEEDS_MORE.test(text)) return !text.includes('MINIBATCH_ONLY');
  const supports = [...text.matchAll(/from '(\.[^']*\.spec\.support)\.js'/g)];
  return supports.some(([, path = '']) => needsMore(new URL(`${path}.ts`, file)));
}

/** The specs beside the sources that need neither a server nor a build: `npm test -- --only unit`. */
function unitTests(): string[] {
  const files = readdirSync(PACKAGE, { recursive: true, encoding: 'utf8' }).filter((file) =>
    /^src\b.*\.spec\.ts$/.test(file),
  );
  return files.filter((file) => !needsMore(new URL(file, PACKAGE))).map((file) => `libs/minibatch/${file}`);
}

const isUnit = process.env['MINIBATCH_ONLY'] === 'unit';

export default defineConfig({
  test: {
    globalSetup: isUnit ? [] : ['test/support/global-setup.ts'],
    // Two cores are what there is; more workers only make real servers time out.
    maxWorkers: 2,
    projects: isUnit
      ? [{ resolve, test: { ...common, name: 'unit', include: unitTests() } }]
      : [
          { resolve, test: { ...common, name: 'all', include: ['libs/*/src/**/*.spec.ts', 'test/**/*.spec.ts'] } },
          {
            resolve,
            test: {
              ...common,
              ...REPLICA_SET,
              name: 'replica set',
              globalSetup: ['test/support/replica-set-setup.ts'],
            },
          },
        ],
  },
});
