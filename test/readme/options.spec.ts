import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

/** The public types that hold options: those that are called so, and these. */
const OTHERS = [
  'DeadLetterFilter',
  'MaxAge',
  'MessageFilter',
  'MinibatchModuleExtras',
  'MongooseCollections',
  'OpenWindowChoice',
  'SkipChoice',
  'WindowFilter',
];

/** The names of options by the types that have them, as the sources of the package say. */
async function optionTypes(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const manifest = JSON.parse(await readFile(repository('libs/minibatch/package.json'), 'utf8')) as {
    exports: Record<string, string | { types: string }>;
  };
  const entries = Object.entries(manifest.exports).flatMap(([path, target]) =>
    // What the engine passes to a store is described by the port.
    typeof target === 'string' || path === './store'
      ? []
      : [repository('libs/minibatch', target.types.replace(/^\.\/dist/, 'src').replace(/\.d\.ts$/, '.ts'))],
  );
  const program = ts.createProgram(entries, {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    strict: true,
    experimentalDecorators: true,
    types: ['node'],
  });
  const checker = program.getTypeChecker();
  const found = new Map<string, ReadonlySet<string>>();
  for (const entry of entries) {
    const source = program.getSourceFile(entry);
    const module = source && checker.getSymbolAtLocation(source);
    for (const exported of module ? checker.getExportsOfModule(module) : []) {
      if (!exported.name.endsWith('Options') && !OTHERS.includes(exported.name)) continue;
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      const type = checker.getDeclaredTypeOfSymbol(symbol);
      const parts = type.isUnion() ? type.types : [type];
      const names = parts
        .flatMap((part) => checker.getPropertiesOfType(part))
        .filter((property) => !property.getJsDocTags(checker).some(({ name }) => name === 'internal'))
        // One that must not be there.
        .filter(
          (property) => !(checker.getTypeOfSymbol(property).flags & (ts.TypeFlags.Undefined | ts.TypeFlags.Never)),
        )
        .map((property) => property.name);
      found.set(exported.name, new Set(names));
    }
  }
  return found;
}

interface Section {
  readonly types: readonly string[];
  /** Types whose options are in another section. */
  readonly inherited: readonly string[];
  readonly names: readonly string[];
}

const inBackquotes = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);

/** What a page says of types: a line that names them, then a table whose first cells name their options. */
function sectionsOf(page: string): Section[] {
  return [...page.matchAll(/^Type: (.*)\n\n((?:\|.*\n?)+)/gm)].map(([, types = '', table = '']) => {
    const [own = '', inherited = ''] = types.split(', in addition to ');
    return {
      types: inBackquotes(own),
      inherited: inBackquotes(inherited),
      names: table
        .split('\n')
        .slice(2)
        .flatMap((row) => inBackquotes(row.split('|')[1] ?? ''))
        // `map(row, document)` is an option, too.
        .map((name) => name.replace(/\(.*$/, '')),
    };
  });
}

const folder = repository('docs');
const pages = (await readdir(folder, { recursive: true })).filter((page) => page.endsWith('.md'));
const sections = (await Promise.all(pages.map((page) => readFile(join(folder, page), 'utf8')))).flatMap(sectionsOf);

describe('the reference of options', { timeout: 120_000 }, () => {
  let types: ReadonlyMap<string, ReadonlySet<string>>;
  beforeAll(async () => {
    types = await optionTypes();
  }, 120_000);

  it('has every type of options once, and no other', () => {
    expect(types.size).toBeGreaterThan(30);
    expect(sections.flatMap((section) => section.types).toSorted()).toEqual([...types.keys()].toSorted());
  });

  it.each(sections.map((section) => ({ section, of: section.types.join(', ') })))(
    'has every option of $of once, and no other',
    ({ section }) => {
      const elsewhere = new Set(section.inherited.flatMap((type) => [...(types.get(type) ?? [])]));
      const wanted = new Set(
        section.types.flatMap((type) => [...(types.get(type) ?? [])]).filter((name) => !elsewhere.has(name)),
      );
      expect(section.names.toSorted()).toEqual([...wanted].toSorted());
    },
  );
});
