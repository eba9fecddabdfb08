import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { repository } from '../support/workspace.js';

/** Where users write options, by what `api` is; `·` stands for the option. */
const PLACES: Readonly<Record<string, readonly string[]>> = {
  'nestjs-minibatch': [
    'MinibatchModule.forRoot({ · })',
    'MinibatchModule.forRoot({ retry: { · } })',
    'MinibatchModule.forRoot({ statusController: { · } })',
    'MinibatchModule.forRootAsync({ useFactory: () => ({}), · })',
    'MinibatchModule.forRootAsync({ useFactory: (): MinibatchModuleOptions => ({ · }) })',
    "api.Streaming('flights', { · })",
    "api.Streaming('flights', { size: 100, · })",
    "api.Streaming('flights', { interval: '2s', · })",
    "api.Streaming('flights', { interval: '2s', relaxed: false, · })",
    "api.Streaming('flights', { emitter: api.CountWindow, · })",
    "api.Streaming('flights', { size: 1, rateLimit: { · } })",
    "api.Streaming('flights', { size: 1, retry: { · } })",
    "api.StreamSource('flights', { · })",
    "api.StreamSource('flights', { retry: { · } })",
    "api.defineStream('flights', { · })",
    "api.defineStream('flights', { maxAge: { · } })",
    "api.MinibatchModule.forFeature([api.defineStream('flights', { · })])",
    'stream.append({}, { · })',
    'stream.appendMany([], { · })',
    'stream.appendMany([], { each: (): AppendMessageOptions => ({ · }) })',
    'stream.attach(source, { · })',
    'stream.consume({ size: 1, · }, () => undefined)',
    'stream.drain({ size: 1, · }, () => undefined)',
    'stream.replay({ · })',
    'stream.messages({ · })',
    'stream.windows({ · })',
    'stream.deadLetters({ · })',
    'stream.redrive({ · })',
    "stream.giveUp({ window: 'id', · })",
    "stream.skip({ window: 'id', · })",
    "stream.removeGroup('report', { · })",
    'target.append({}, { · })',
    'target.appendMany([], { · })',
    "new api.ResultRefused('never', { · })",
    'api.mongooseStore({ · })',
    'api.mongooseStore({ collections: { · } })',
    'new api.CollectionSource({ · })',
    'new api.CollectionSink({ · })',
  ],
  'nestjs-minibatch/lmdb': ['api.lmdbStore({ · })', "api.lmdbStore({ path: './data', · })"],
  'nestjs-minibatch/postgres': [
    'api.postgresStore({ · })',
    'api.postgresStore({ useFactory: () => ({}), · })',
    'api.postgresSchema({ · })',
  ],
  'nestjs-minibatch/client': [
    "api.openStream(store, 'flights', { · })",
    "api.mongoStore('mongodb://localhost', { · })",
  ],
  'nestjs-minibatch/kafka': ['new api.KafkaSource({ · })', 'new api.KafkaSink({ · })'],
  'nestjs-minibatch/mqtt': ['new api.MqttSource({ · })', 'new api.MqttSink({ · })'],
  'nestjs-minibatch/celery': ['new api.CeleryEventSource({ · })'],
  'nestjs-minibatch/omegaml': ['new api.DatasetSource({ · })', 'new api.DatasetSink({ · })'],
  'nestjs-minibatch/threads': ['api.threads({ · })'],
  'nestjs-minibatch/bullmq': ['api.bullmq({ · })'],
  'nestjs-minibatch/flow': [
    "api.Pipeline('late', { · })",
    "api.Pipeline('late', { retry: { · } })",
    "api.from('flights').to(Late, { · })",
    "api.from('flights').into(Reports, { · })",
    "api.from('flights').into(Reports, { batch: { · } })",
  ],
  'nestjs-minibatch/testing': ['api.MinibatchTestingModule.forRoot({ · })'],
  'nestjs-minibatch/microservices': ['new api.ClientProxySink({ · })'],
};

/** The file that the user edits; the language service reads everything else from disk. */
const FILE = repository('test/package/hovered.ts');
const PACKAGE = repository('libs/minibatch');

let content = '';
let version = 0;
const service = ts.createLanguageService({
  getScriptFileNames: () => [FILE],
  getScriptVersion: (path) => (path === FILE ? String(version) : '0'),
  getScriptSnapshot: (path) => {
    const text = path === FILE ? content : ts.sys.readFile(path);
    return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
  },
  getCurrentDirectory: () => repository(),
  getCompilationSettings: () => ({
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    strict: true,
    skipLibCheck: true,
    types: ['node'],
  }),
  getDefaultLibFileName: ts.getDefaultLibFilePath,
  fileExists: (path) => path === FILE || ts.sys.fileExists(path),
  readFile: (path) => (path === FILE ? content : ts.sys.readFile(path)),
  directoryExists: ts.sys.directoryExists,
  getDirectories: ts.sys.getDirectories,
  realpath: ts.sys.realpath,
});

function edit(entry: string, place: string): ts.Program {
  content = [
    `import * as api from '${entry}';`,
    `import { Stream, Source, SourceTarget, MinibatchModule, type MinibatchModuleOptions, type AppendMessageOptions } from 'nestjs-minibatch';`,
    `import type { StreamStore } from 'nestjs-minibatch/store';`,
    `import { type Sink, type StreamRef } from 'nestjs-minibatch';`,
    `declare const Late: StreamRef<unknown>; declare const Reports: new () => Sink;`,
    `declare const stream: Stream; declare const target: SourceTarget<unknown>; declare const source: Source; declare const store: StreamStore;`,
    place,
  ].join('\n');
  version += 1;
  const program = service.getProgram();
  if (!program) throw new Error('the language service has no program');
  return program;
}

interface Option {
  readonly name: string;
  readonly required: boolean;
  readonly kind: 'duration' | 'number' | 'other';
}

/** Of what a number is a count, or what it measures. */
const UNITS =
  /\b(messages|documents|records|rows|events|bodies|tasks|partitions|bytes|windows|runs|processes|permissions|share|consumers|version)\b/i;

/** The options that may be written at a place, except those of other packages. */
function optionsAt(entry: string, place: string): readonly Option[] {
  const program = edit(entry, place.replace('·', ''));
  const checker = program.getTypeChecker();
  const at = content.lastIndexOf('\n') + 1;
  const source = program.getSourceFile(FILE);
  if (!source) throw new Error('the file is missing');
  const text = content.slice(at);
  const end = text.length - (place.length - place.indexOf('·') - 1);
  let literal: ts.ObjectLiteralExpression | undefined;
  const visit = (node: ts.Node): void => {
    if (node.getStart(source) <= at + end && node.getEnd() >= at + end) {
      if (ts.isObjectLiteralExpression(node)) literal = node;
      ts.forEachChild(node, visit);
    }
  };
  visit(source);
  const type = literal && checker.getContextualType(literal);
  if (!literal || !type) throw new Error(`${place} takes no options`);
  const written = new Set(literal.properties.map((property) => property.name?.getText(source)));
  const found = new Map<string, ts.Symbol[]>();
  for (const member of type.isUnion() ? type.types : [type]) {
    if (!(member.flags & (ts.TypeFlags.Object | ts.TypeFlags.Intersection))) continue;
    for (const symbol of checker.getPropertiesOfType(member)) {
      const ours = symbol.declarations?.some((declaration) => isOurs(declaration.getSourceFile().fileName)) ?? false;
      if (ours && !written.has(symbol.name)) found.set(symbol.name, [...(found.get(symbol.name) ?? []), symbol]);
    }
  }
  const typeOf = (symbol: ts.Symbol) => checker.getNonNullableType(checker.getTypeOfSymbol(symbol));
  return [...found].flatMap(([name, symbols]) => {
    const possible = symbols.filter((symbol) => !(typeOf(symbol).flags & ts.TypeFlags.Never));
    if (possible.length === 0) return [];
    const optional = possible.some(({ flags }) => flags & ts.SymbolFlags.Optional);
    const parts = possible.map(typeOf).flatMap((each) => (each.isUnion() ? each.types : [each]));
    return [{ name, required: !optional, kind: kindOf(parts) }];
  });
}

function kindOf(parts: readonly ts.Type[]): Option['kind'] {
  if (!parts.some(({ flags }) => flags & ts.TypeFlags.Number)) return 'other';
  if (parts.some(({ flags }) => flags & ts.TypeFlags.TemplateLiteral)) return 'duration';
  return parts.length === 1 ? 'number' : 'other';
}

function isOurs(file: string): boolean {
  return file.startsWith(join(PACKAGE, 'dist')) || file.includes('/node_modules/nestjs-minibatch/');
}

interface Shown {
  readonly text: string;
  readonly tags: ReadonlyMap<string, string>;
}

/** What the editor shows over each of the options, written one at a time. */
function hovers(entry: string, place: string, options: readonly Option[]): readonly Shown[] {
  const written = options.map(({ name, kind }) => `${name}: ${kind === 'other' ? 'undefined!' : '5'}`);
  edit(entry, written.map((option) => place.replace('·', option)).join('\n'));
  let at = 0;
  return written.map((option) => {
    at = content.indexOf(option, at) + 1;
    const info = service.getQuickInfoAtPosition(FILE, at);
    const tags = new Map((info?.tags ?? []).map(({ name, text }) => [name, ts.displayPartsToString(text)]));
    return { text: ts.displayPartsToString(info?.documentation), tags };
  });
}

/** What a text does not tell of an option. */
function missing({ name, required, kind }: Option, { text, tags }: Shown): readonly string[] {
  if (text === '') return [`${name}: no text`];
  const unit = { duration: /milliseconds/i, number: UNITS, other: /./ }[kind];
  return [
    ...(unit.test(text) ? [] : [`${name}: no unit`]),
    ...(required || tags.has('default') ? [] : [`${name}: no default`]),
  ];
}

describe('an editor tells of each option of', { timeout: 120_000 }, () => {
  const places = Object.entries(PLACES).flatMap(([entry, list]) => list.map((place) => ({ entry, place })));

  it('is tried for every entry of the package that takes options', () => {
    const { exports } = JSON.parse(ts.sys.readFile(join(PACKAGE, 'package.json')) ?? '') as { exports: object };
    // Types of the port, and the manifest.
    const without = ['./store', './package.json'];
    const entries = Object.keys(exports).filter((path) => !without.includes(path));
    expect(Object.keys(PLACES).toSorted()).toEqual(
      entries.map((path) => path.replace('.', 'nestjs-minibatch')).toSorted(),
    );
  });

  it.each(places)('$place what it does, its unit and its default', ({ entry, place }) => {
    const options = optionsAt(entry, place);
    expect(options.length).toBeGreaterThan(0);
    const shown = hovers(entry, place, options);
    expect(shown.flatMap((each, index) => (options[index] ? missing(options[index], each) : []))).toEqual([]);
  });
});
