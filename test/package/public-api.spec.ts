import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

interface Manifest {
  readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string } | string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta: Readonly<Record<string, { readonly optional?: boolean }>>;
}

const PACKAGE = repository('libs/minibatch');
const manifest = JSON.parse(readFileSync(resolve(PACKAGE, 'package.json'), 'utf8')) as Manifest;
const peers = Object.keys(manifest.peerDependencies);
const optionalPeers = peers.filter((name) => manifest.peerDependenciesMeta[name]?.optional === true);
const declared = [...Object.keys(manifest.dependencies), ...peers];

const ENTRIES = Object.entries(manifest.exports).flatMap(([path, target]) =>
  typeof target === 'string'
    ? []
    : [
        {
          name: path.replace(/^\./, 'nestjs-minibatch'),
          js: resolve(PACKAGE, target.default),
          types: resolve(PACKAGE, target.types),
        },
      ],
);

/** The packages that a built file imports, and those that the files import which it imports; `import()` included. */
function packagesOf(entry: string): ReadonlySet<string> {
  const packages = new Set<string>();
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    const { importedFiles, typeReferenceDirectives } = ts.preProcessFile(readFileSync(path, 'utf8'), true, true);
    for (const { fileName } of [...importedFiles, ...typeReferenceDirectives]) {
      if (fileName.startsWith('node:')) continue;
      if (!fileName.startsWith('.')) packages.add(packageOf(fileName));
      else visit(resolve(dirname(path), path.endsWith('.d.ts') ? fileName.replace(/\.js$/, '.d.ts') : fileName));
    }
  };
  visit(entry);
  return packages;
}

/** As `packagesOf`, without what is loaded later by `import()`. */
function packagesAtOnce(entry: string): ReadonlySet<string> {
  const packages = new Set<string>();
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    const { statements } = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2023);
    for (const statement of statements) {
      if (!ts.isImportDeclaration(statement) && !ts.isExportDeclaration(statement)) continue;
      const { moduleSpecifier } = statement;
      if (!moduleSpecifier || !ts.isStringLiteral(moduleSpecifier) || moduleSpecifier.text.startsWith('node:'))
        continue;
      if (moduleSpecifier.text.startsWith('.')) visit(resolve(dirname(path), moduleSpecifier.text));
      else packages.add(packageOf(moduleSpecifier.text));
    }
  };
  visit(entry);
  return packages;
}

/** `@nestjs/common/interfaces/…` belongs to `@nestjs/common`. */
function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

const program = ts.createProgram(
  ENTRIES.map(({ types }) => types),
  {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    types: [],
  },
);

/** All that can be imported from an entry point, types included. */
function exportedNames(types: string): readonly string[] {
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(types);
  const module = source && checker.getSymbolAtLocation(source);
  return module ? checker.getExportsOfModule(module).map((symbol) => symbol.name) : [];
}

describe.each(ENTRIES)('$name', { timeout: 120_000 }, ({ name, js, types }) => {
  it('exports what it did before', async () => {
    const values = Object.keys((await import(name)) as object).toSorted();
    const onlyTypes = exportedNames(types).filter((exported) => !values.includes(exported));
    expect({ values, types: onlyTypes.toSorted() }).toMatchSnapshot();
  });

  it('imports only what the package declares', () => {
    const undeclared = [...packagesOf(js), ...packagesOf(types)].filter((used) => !declared.includes(used));
    expect(undeclared).toEqual([]);
  });
});

describe.each(ENTRIES)('$name', ({ js }) => {
  it('can be imported without any optional peer', () => {
    expect(optionalPeers).toEqual(expect.arrayContaining(['lmdb', 'mongoose', '@nestjs/mongoose', 'pg']));
    const packages = packagesAtOnce(js);
    expect([...packages]).not.toEqual([]);
    expect(optionalPeers.filter((name) => packages.has(name))).toEqual([]);
  });
});

describe.each(['', '/store', '/lmdb', '/postgres', '/client', '/testing'])('nestjs-minibatch%s', (path) => {
  const entry = ENTRIES.find(({ name }) => name === `nestjs-minibatch${path}`);

  it('compiles without any optional peer', () => {
    const packages = entry ? packagesOf(entry.types) : new Set(optionalPeers);
    expect(optionalPeers.filter((name) => packages.has(name))).toEqual([]);
  });
});

describe.each(['client', 'store'])('the %s entry', (path) => {
  it('imports nothing of Nest', () => {
    const entry = ENTRIES.find(({ name }) => name === `nestjs-minibatch/${path}`);
    const packages = entry ? [...packagesOf(entry.js)] : [];
    expect(packages).toContain('bson');
    expect(packages.filter((name) => name.startsWith('@nestjs/'))).toEqual([]);
  });
});
