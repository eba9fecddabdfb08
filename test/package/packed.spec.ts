import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase } from '../support/mongo-server.js';
import { repository, run, succeed, temporaryFolder, tool } from '../support/workspace.js';

interface Manifest {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta: Readonly<Record<string, { readonly optional?: boolean }>>;
}

interface LockedPackage {
  readonly version: string;
  readonly link?: boolean;
}

const VARIANTS = ['esm', 'cjs'] as const;

const GENERATED_BUILD_TSCONFIG = {
  extends: './tsconfig.json',
  compilerOptions: { rootDir: './src' },
  include: ['src'],
  exclude: ['node_modules', 'test', 'dist', '**/*spec.ts'],
};

async function readJson<T>(...path: readonly string[]): Promise<T> {
  return JSON.parse(await readFile(join(...path), 'utf8')) as T;
}

/**
 * The package as a user gets it: packed, and installed by npm into a folder that holds nothing but it, its required peers
 * and Node's types. In that folder stand the apps that the Nest CLI generates, one of each kind.
 */
describe('the packed package', { timeout: 300_000 }, () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let manifest: Manifest;
  let tarball: string;
  let requiredPeers: readonly string[];
  let withMongoose: string;

  beforeAll(async () => {
    folder = await temporaryFolder();
    manifest = await readJson<Manifest>(repository('libs/minibatch/package.json'));
    requiredPeers = Object.keys(manifest.peerDependencies).filter(
      (name) => manifest.peerDependenciesMeta[name]?.optional !== true,
    );
    const args = ['pack', '--silent', '--pack-destination', folder.path];
    const output = await succeed('npm', args, { cwd: repository('libs/minibatch') });
    tarball = join(folder.path, output.trim().split('\n').at(-1) ?? '');
    await install(folder.path, requiredPeers);
    withMongoose = join(folder.path, 'with-mongoose');
    await mkdir(withMongoose);
    await install(withMongoose, [...requiredPeers, 'mongoose', '@nestjs/mongoose']);
    await Promise.all(VARIANTS.map(generate));
  }, 300_000);

  afterAll(async () => await folder.dispose());

  /** At the versions of the repository's lockfile, which are in npm's cache: npm drops what nothing here asks for. */
  async function install(path: string, peers: readonly string[]): Promise<void> {
    const { packages } = await readJson<{ packages: Record<string, LockedPackage> }>(repository('package-lock.json'));
    const locked = Object.entries(packages).filter(([path, { link }]) => path.startsWith('node_modules/') && !link);
    const version = (name: string) => packages[`node_modules/${name}`]?.version;
    const app = {
      name: 'apps',
      private: true,
      dependencies: {
        ...Object.fromEntries(peers.map((name) => [name, version(name)])),
        'nestjs-minibatch': `file:${tarball}`,
      },
      devDependencies: { '@types/node': version('@types/node') },
    };
    const lock = { name: 'apps', lockfileVersion: 3, packages: { '': app, ...Object.fromEntries(locked) } };
    await writeFile(join(path, 'package.json'), JSON.stringify(app));
    await writeFile(join(path, 'package-lock.json'), JSON.stringify(lock));
    await succeed('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund'], { cwd: path });
  }

  /** What `nest new` of Nest 12 generates, with our few files in place of its sources. */
  async function generate(type: (typeof VARIANTS)[number]): Promise<void> {
    const path = join(folder.path, type);
    await cp(repository('test/package/app/src'), join(path, 'src'), { recursive: true });
    await writeFile(join(path, 'package.json'), JSON.stringify(type === 'esm' ? { type: 'module' } : {}));
    await cp(repository('test/fixtures/nest-apps/nest-12/tsconfig.json'), join(path, 'tsconfig.json'));
    await writeFile(join(path, 'tsconfig.build.json'), JSON.stringify(GENERATED_BUILD_TSCONFIG));
  }

  /** Compiles an app with its generated settings. */
  async function compile(type: string, options: Readonly<Record<string, unknown>> = {}) {
    const config = { extends: './tsconfig.build.json', compilerOptions: { types: ['node'], ...options } };
    await writeFile(join(folder.path, type, 'tsconfig.packed.json'), JSON.stringify(config));
    return await run(tool('tsc'), ['-p', 'tsconfig.packed.json'], { cwd: join(folder.path, type) });
  }

  async function runScript(source: string, cwd = folder.path): Promise<unknown> {
    const path = join(cwd, 'script.mjs');
    await writeFile(path, source);
    return JSON.parse(await succeed(process.execPath, [path], { cwd }));
  }

  describe('holds', () => {
    let root: string;
    let files: readonly string[];
    beforeAll(async () => {
      root = join(folder.path, 'node_modules/nestjs-minibatch');
      files = await readdir(root, { recursive: true });
    });

    it('what was built, its sources, the README, the documentation and the licence, and no tests', () => {
      const some = [
        'README.md',
        'LICENSE',
        'CHANGELOG.md',
        'docs/README.md',
        'dist/index.js',
        'dist/index.d.ts',
        'src/index.ts',
      ];
      expect(files).toEqual(expect.arrayContaining(some));
      expect(files.filter((file) => /\bspec\b|tsbuildinfo|node_modules|staging/.test(file))).toEqual([]);
    });

    it('the source that each source map names', async () => {
      const maps = files.filter((file) => file.endsWith('.map'));
      expect(maps).toEqual(expect.arrayContaining(['dist/index.js.map', 'dist/index.d.ts.map']));
      const dead: string[] = [];
      for (const map of maps) {
        const { sources } = await readJson<{ sources: readonly string[] }>(root, map);
        dead.push(...sources.filter((source) => !files.includes(join(dirname(map), source))));
      }
      expect(dead).toEqual([]);
    });

    it('what its pages link to', async () => {
      const dead: string[] = [];
      for (const page of files.filter((file) => file.endsWith('.md'))) {
        const text = await readFile(join(root, page), 'utf8');
        for (const [, target = ''] of text.matchAll(/\]\((?!https?:|#)([^)#\s]+)[^)]*\)/g)) {
          if (!files.includes(join(dirname(page), target).replace(/\/$/, ''))) dead.push(`${page}: ${target}`);
        }
      }
      expect(dead).toEqual([]);
    });
  });

  it('needs no more than its required peers', async () => {
    const { packages } = await readJson<{ packages: object }>(folder.path, 'node_modules/.package-lock.json');
    const installed = Object.keys(packages).map((path) => path.split('node_modules/').at(-1));
    expect(installed).toEqual(expect.arrayContaining([...requiredPeers]));
    const optional = Object.keys(manifest.peerDependencies).filter((name) => !requiredPeers.includes(name));
    expect(optional).toEqual(expect.arrayContaining(['lmdb', 'mongoose', '@nestjs/mongoose', 'pg']));
    expect(optional.filter((name) => installed.includes(name))).toEqual([]);
    await succeed('npm', ['ls', '--all'], { cwd: folder.path });
  });

  it.each(VARIANTS)('works in a fresh %s app', async (type) => {
    const { exitCode, stdout } = await compile(type);
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: '' });
    const emitted = await readFile(join(folder.path, type, 'dist/app.module.js'), 'utf8');
    expect(emitted.includes('require("nestjs-minibatch")')).toBe(type === 'cjs');
    const result = await run(process.execPath, ['dist/main.js'], { cwd: join(folder.path, type) });
    expect(result).toEqual({ exitCode: 0, stdout: '{"flights":3,"worst":25}\n', stderr: '' });
  });

  it.each(VARIANTS)('has typings without errors of their own in a %s app', async (type) => {
    const { stdout } = await compile(type, { skipLibCheck: false, noEmit: true });
    expect(stdout.split('\n').filter((line) => line.includes('nestjs-minibatch'))).toEqual([]);
  });

  it('says with a code what is missing when the LMDB store is used without lmdb', async () => {
    const error = await runScript(`
      import { openStream } from 'nestjs-minibatch/client';
      import { lmdbStore } from 'nestjs-minibatch/lmdb';
      const error = await openStream(lmdbStore({ path: './data' }), 'flights').catch((error) => error);
      console.log(JSON.stringify({ name: error.name, code: error.code, message: error.message }));
    `);
    expect(error).toMatchObject({ name: 'MinibatchError', code: expect.stringMatching(/^MINIBATCH_/) as unknown });
    expect((error as Error).message).toMatch(/npm install lmdb/);
  });

  it.each([
    [
      'the default store',
      `
        import 'reflect-metadata';
        import { NestFactory } from '@nestjs/core';
        import { MinibatchModule } from 'nestjs-minibatch';
        const options = { logger: false, abortOnError: false };
        const error = await NestFactory.createApplicationContext(MinibatchModule.forRoot(), options).catch((error) => error);`,
      /npm install mongoose @nestjs\/mongoose, or choose another store, e\.g\. forRoot\(\{ store: lmdbStore/,
    ],
    [
      'mongoStore',
      `
        import { mongoStore, openStream } from 'nestjs-minibatch/client';
        const error = await openStream(mongoStore('mongodb://localhost/app'), 'flights').catch((error) => error);`,
      /npm install mongoose/,
    ],
  ])('says with a code what is missing when %s is used without mongoose', async (_, script, remedy) => {
    const error = await runScript(`${script}
      console.log(JSON.stringify({ code: error.code, message: error.message }));
    `);
    expect(error).toEqual({ code: 'MINIBATCH_MISSING_PACKAGE', message: expect.stringMatching(remedy) as unknown });
  });

  it('lets a plain Node script append', async () => {
    const database = openDatabase();
    try {
      const uri = database.uri.replace(/\/?(\?|$)/, `/${database.name}$1`);
      const result = await runScript(
        `
        import { mongoStore, openStream } from 'nestjs-minibatch/client';
        const flights = await openStream(mongoStore(${JSON.stringify(uri)}), 'flights');
        const { id } = await flights.append({ origin: 'SAT', delay: 25 });
        await flights.disconnect();
        console.log(JSON.stringify({ stored: id !== undefined }));
      `,
        withMongoose,
      );
      expect(result).toEqual({ stored: true });
      const connection = await database.connect();
      const messages = await connection.collection('buffer').find({ stream: 'flights' }).toArray();
      expect(messages).toMatchObject([{ data: { origin: 'SAT', delay: 25 }, processed: false }]);
    } finally {
      await database.dispose();
    }
  });

  it('is clean for publint', async () => {
    const { exitCode, stdout, stderr } = await run(tool('publint'), ['run', tarball, '--strict']);
    expect(stdout + stderr).toContain('All good!');
    expect(exitCode).toBe(0);
  });

  it('is clean for attw, whatever the module resolution', async () => {
    // CommonJS loads the package by require(esm), which attw knows nothing of.
    const esm = ['--profile', 'strict', '--ignore-rules', 'cjs-resolves-to-esm'];
    const args = [tarball, ...esm, '--no-definitely-typed', '--format', 'ascii', '--no-color'];
    const { exitCode, stdout, stderr } = await run(tool('attw'), args);
    expect(exitCode, stdout + stderr).toBe(0);
  });
});
