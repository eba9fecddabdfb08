import { blocksOf } from './blocks.js';

/** A TypeScript block of a doc comment. */
export interface CommentBlock {
  readonly code: string;
  /** Line of the source file that its first line is. */
  readonly line: number;
}

/** The TypeScript blocks of the doc comments of a source file, in order. */
export function commentBlocksOf(source: string): readonly CommentBlock[] {
  // Only lines of comments, without their stars, so that line numbers stay.
  const text = source
    .split('\n')
    .map((line) => /^\s*\*(?: (.*)|)$/.exec(line)?.[1] ?? '')
    .join('\n');
  return blocksOf(text);
}

/** What the examples use, by the package that exports it. */
const EXPORTED: Readonly<Record<string, readonly string[]>> = {
  '@nestjs/common': ['Controller', 'Inject', 'Injectable', 'Module', 'UseGuards'],
  '@nestjs/microservices': ['ClientProxy'],
  '@nestjs/mongoose': ['InjectConnection', 'MongooseModule'],
  '@nestjs/testing': ['Test'],
  mongoose: ['Connection'],
  mqtt: ['connect'],
  'nestjs-minibatch': [
    'CollectionSink',
    'CollectionSource',
    'defineStream',
    'ErrorCode',
    'Executor',
    'ExecutorUnavailable',
    'InjectStream',
    'memoryStore',
    'MessageView',
    'MinibatchError',
    'MinibatchModule',
    'RejectMessages',
    'RemoteHandlerError',
    'ResultRefused',
    'Source',
    'SourceTarget',
    'StatusController',
    'Stored',
    'Stream',
    'Streaming',
    'StreamService',
    'StreamSource',
    'Window',
    'WindowEmitter',
    'WindowWorker',
  ],
  'nestjs-minibatch/celery': ['CeleryEventSource'],
  'nestjs-minibatch/client': ['openStream'],
  'nestjs-minibatch/flow': ['from', 'Pipeline'],
  'nestjs-minibatch/kafka': ['KafkaSink', 'KafkaSource'],
  'nestjs-minibatch/lmdb': ['lmdbStore'],
  'nestjs-minibatch/microservices': ['ClientProxySink'],
  'nestjs-minibatch/mqtt': ['MqttConnectionOptions', 'MqttSink', 'MqttSource'],
  'nestjs-minibatch/omegaml': ['DatasetSink', 'DatasetSource'],
  'nestjs-minibatch/postgres': ['drizzleSession', 'knexSession', 'postgresSchema', 'postgresStore', 'prismaSession'],
  'nestjs-minibatch/store': ['StreamStore'],
  'nestjs-minibatch/threads': ['runMinibatchWorker', 'threads'],
  'nestjs-minibatch/bullmq': ['bullmq'],
  'nestjs-minibatch/testing': ['MinibatchHarness', 'MinibatchTestingModule'],
};

/** What is the reader's own, by name; each is declared where an example mentions it. */
const OWN: Readonly<Record<string, string>> = {
  AdminGuard: 'declare class AdminGuard { canActivate(): boolean }',
  Alarm: 'interface Alarm { device: string }',
  Clicks: "const Clicks = defineStream<{ user: string; page: string; at: Date }>('clicks');",
  ConfigService:
    'abstract class ConfigService { abstract get<T = any>(name: string): T; abstract getOrThrow(name: string): string }',
  data: 'declare const data: { delay: number };',
  Delays: "const Delays = defineStream<Flight & { airport: string }>('delays');",
  expect: 'declare const expect: (given: unknown) => { toEqual(wanted: unknown): void };',
  Flight: 'interface Flight { origin: string; delay: number }',
  FlightApi: 'declare class FlightApi { follow(signal: AbortSignal): AsyncIterable<Flight> }',
  FlightReport: 'declare class FlightReport { summarize(): unknown }',
  Flights: "const Flights = defineStream<Flight>('flights');",
  flights: 'declare const flights: Stream<Flight>;',
  harness: 'declare const harness: MinibatchHarness;',
  WorkerModule: 'declare class WorkerModule {}',
  MyExecutor: 'declare const MyExecutor: new () => Executor;',
  MyDatabase: 'declare class MyDatabase { destroy(): Promise<void> }',
  MyStore: 'declare const MyStore: new (database: MyDatabase) => StreamStore;',
  db: 'declare const db: { transaction(work: (tx: { insert(table: object): { values(row: object): Promise<unknown> }; execute(query: { chunks: unknown[] }): Promise<unknown> }) => Promise<void>): Promise<void> };',
  orderTable: 'declare const orderTable: object;',
  sql: 'declare const sql: { raw(text: string): unknown; param(value: unknown): unknown; join(chunks: unknown[]): { chunks: unknown[] } };',
  knex: 'declare const knex: { transaction(work: (trx: ((table: string) => { insert(row: object): Promise<unknown> }) & { raw(sql: string, bindings: readonly unknown[]): Promise<unknown> }) => Promise<void>): Promise<void> };',
  Order: 'interface Order { state: string }',
  order: 'declare const order: { id: string };',
  orders: 'declare const orders: Stream<{ id: string }>;',
  prisma:
    'declare const prisma: { $transaction(work: (tx: { order: { create(given: object): Promise<unknown> }; $queryRawUnsafe(text: string, ...values: unknown[]): Promise<unknown> }) => Promise<void>): Promise<void> };',
  Payment: 'class Payment { amount = 0 }',
  Reading: 'interface Reading { celsius: number }',
  Report: 'interface Report { origin?: string; flights?: number }',
  report: 'declare const report: (flights: readonly Flight[]) => void;',
  ReportCollection: 'declare class ReportCollection { put(result: Report): Promise<void> }',
  response: 'declare const response: Response;',
  streams: 'declare const streams: StreamService;',
  LateFlights: "const LateFlights = defineStream<Flight>('late-flights');",
  valid: 'declare const valid: (data: unknown) => boolean;',
  window: 'declare const window: Window<Flight>;',
};

// Imports have the word `from`, too.
const mentions = (text: string, name: string) =>
  new RegExp(`(?<![.'\\w])${name}${name === 'from' ? '\\(' : "\\b(?!')"}`).test(text);
const declares = (text: string, name: string) =>
  new RegExp(`\\b(class|const|interface|function) ${name}\\b`).test(text);

/** What a block uses of the packages and does not import. */
export function unimported(code: string): readonly string[] {
  const text = code.replaceAll(/(?<!:)\/\/.*$/gm, '').replaceAll(/`[^`]*`|'[^']*'/g, "''");
  const imported = [...text.matchAll(/^import (?:type )?\{([^}]*)\}/gm)].flatMap(([, names = '']) =>
    names.split(',').map((name) => name.trim().replace(/^type /, '')),
  );
  return Object.values(EXPORTED)
    .flat()
    .filter((name) => mentions(text, name) && !declares(text, name) && !imported.includes(name));
}

/** The example with what its reader has around it, and nothing more, so that it compiles as a file. */
export function asFile(code: string): string {
  const example = around(code);
  // An example that brings its imports has what it takes from the package.
  const isWhole = /^import /m.test(code);
  const wanted = Object.keys(OWN).filter((name) => mentions(example, name) && !declares(example, name));
  for (const name of wanted) {
    const more = Object.keys(OWN).filter((other) => other !== name && mentions(OWN[name] ?? '', other));
    for (const other of more) if (!wanted.includes(other) && !declares(example, other)) wanted.push(other);
  }
  const own = wanted.map((name) => OWN[name]).join('\n');
  const all = `${own}\n${example}`;
  const imports = Object.entries(EXPORTED).flatMap(([from, names]) => {
    const used = names.filter(
      (name) => mentions(all, name) && !declares(example, name) && !(isWhole && mentions(code, name)),
    );
    return used.length > 0 ? [`import { ${used.map(asImport).join(', ')} } from '${from}';`] : [];
  });
  return `${imports.join('\n')}\n${all}\nexport {};\n`;
}

/** Types that decorators do not need at run time. */
const TYPES = ['MessageView', 'MqttConnectionOptions', 'Source', 'SourceTarget', 'Stored', 'StreamStore'];
const asImport = (name: string) => (TYPES.includes(name) ? `type ${name}` : name);

/** Members of classes, decorators and properties stand in what they belong to. */
function around(code: string): string {
  if (/^\w+: /.test(code)) return `export const options: Partial<MqttConnectionOptions> = { ${code} };`;
  if (/\bclass \w/.test(code)) return code;
  const lines = code.split('\n');
  const member = lines.findIndex((line) => /^(@|constructor\()/.test(line));
  if (member < 0) return code;
  const end = lines.findIndex(
    (line, at) =>
      at >= member &&
      (line === '}' || line.endsWith('{}') || /^@.*\)$/.test(line)) &&
      !(lines[at + 1] ?? '').startsWith(' ') &&
      !/^\w+\(window/.test(lines[at + 1] ?? ''),
  );
  const members = lines.slice(member, end + 1).join('\n');
  const after = lines.slice(end + 1).join('\n');
  const method = /^@[^\n]*\)$/.test(members) ? `${members} handle() {}` : members;
  const rest = after.includes('this.') ? `  async run() {\n${after}\n  }\n}` : `}\n${after}`;
  return `${lines.slice(0, member).join('\n')}\nexport class Example {\n${method}\n${rest}`;
}
