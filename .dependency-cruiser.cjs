/**
 * Who may import whom in the library. Each rule is one sentence of the design; test/tooling/dependencies.spec.ts plants a
 * violation of each and sees it reported. `import type` counts like any other import: it couples just as much.
 */

const SRC = '^libs/minibatch/src';
/** Unit specs and what only they use may import what they like. */
const SPEC = '\\.spec\\.';

/** A package as an import of it is resolved, or as it is written if it is not installed. */
const packages = (...names) => names.flatMap((name) => [`node_modules/${name}/`, `^${name}(/|$)`]);

const PORTS = `${SRC}/(storage|executors|sinks|sources)/[^/]+\\.interface\\.ts$`;
/**
 * A folder inside an area of ports, a file that implements the port beside it, or all that has to do with one system outside: its
 * source, its sink and what they share.
 */
const ADAPTER = `${SRC}/(storage|executors|sinks|sources|adapters)/([^/]+/|[^/]+\\.(store|executor|sink|source)\\.ts$)`;
/**
 * A dataset of omega|ml is a collection that is found through its metadata. Following and writing a collection without losing or
 * duplicating anything is hard enough to do once: the source and sink of datasets are subclasses of those of collections.
 */
const DATASETS = `${SRC}/adapters/omegaml/`;
const COLLECTION_CLASSES = `${SRC}/adapters/collection/collection[.-](source|sink)(\\.options)?\\.ts$`;
/**
 * The folders, lowest first. A folder imports those before it, so no two folders need each other, directly or by a detour. The wiring, in
 * files beside these folders, is above all of them but the testing tools.
 */
const LAYERS = [
  'errors',
  'common',
  'windows',
  'storage',
  'executors',
  'sinks',
  'flow',
  'engine',
  'definitions',
  'sources',
  'consumers',
  'streams',
  'pipelines',
  'status',
  'adapters',
  'client',
  'testing',
];
/** The only files that know which adapters and which engine there are. */
const WIRING = [`${SRC}/minibatch\\.(module|lifecycle)\\.ts$`, `${SRC}/testing/`];
/** An entry point that brings an executor along. */
const EXECUTOR_ENTRIES = [`${SRC}/(bullmq|threads)\\.ts$`, `${SRC}/minibatch\\.worker\\.ts$`];
const ENTRY_POINTS = [`${SRC}/index\\.ts$`, `${SRC}/client/index\\.ts$`];

/** Clients that a user installs only for the adapter or the store that needs one. */
const OPTIONAL_PEERS = {
  lmdb: 'storage/lmdb',
  pg: 'storage/postgres',
  kafkajs: 'adapters/kafka',
  mqtt: 'adapters/mqtt',
  ioredis: '(adapters/celery|executors/bullmq)',
  amqplib: 'adapters/celery',
  bullmq: 'executors/bullmq',
  '@nestjs/microservices': 'adapters/microservices',
};

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      comment: 'Two files that need each other are one file, or there is a third one in them.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    ...LAYERS.map((folder, layer) => ({
      name: 'no-folder-cycles',
      comment: `A folder imports only folders below it: see LAYERS. Move what both need into a lower one.`,
      severity: 'error',
      from: { path: `${SRC}/${folder}/`, pathNot: SPEC },
      to: {
        path: `${SRC}/`,
        pathNot: [
          `${SRC}/(${LAYERS.slice(0, layer + 1).join('|')})/`,
          ...(folder === 'testing' ? [`${SRC}/[^/]+$`] : []),
        ],
      },
    })),
    {
      name: 'every-folder-has-its-layer',
      comment: 'A new folder has to be put into LAYERS, or it could be part of a cycle.',
      severity: 'error',
      from: { path: `${SRC}/` },
      to: { path: `${SRC}/[^/]+/`, pathNot: `${SRC}/(${LAYERS.join('|')})/` },
    },
    {
      name: 'nothing-published-imports-specs',
      comment:
        'What a spec or its support imports is not checked, and is not published; what the package imports is both.',
      severity: 'error',
      from: { path: `${SRC}/`, pathNot: SPEC },
      to: { path: SPEC },
    },
    {
      name: 'errors-import-nothing',
      comment:
        'Everything may throw, so everything imports `errors`; what it imported would come along everywhere. Only Node tells what is an ' +
        'error and what a proxy.',
      severity: 'error',
      from: { path: `${SRC}/errors/`, pathNot: SPEC },
      to: { pathNot: [`${SRC}/errors/`, '^(node:)?util$'] },
    },
    {
      name: 'windows-are-pure',
      comment:
        'Window strategies are functions of messages and a time: no Nest, no database, no I/O. They need a digest, and to split by size.',
      severity: 'error',
      from: { path: `${SRC}/windows/`, pathNot: SPEC },
      to: { pathNot: [`${SRC}/(windows|errors)/`, `${SRC}/common/batches\\.ts$`, '^(node:)?crypto$'] },
    },
    {
      name: 'flow-is-pure',
      comment:
        'Windows by key and event time are functions of messages, rows and a mark: no Nest, no engine, no store, no I/O. They need a digest for ' +
        'long keys.',
      severity: 'error',
      from: { path: `${SRC}/flow/`, pathNot: SPEC },
      to: { pathNot: [`${SRC}/(flow|windows|errors|common)/`, PORTS, '^(node:)?crypto$'] },
    },
    {
      name: 'engine-imports-ports',
      comment:
        'The engine knows ports, the arithmetic of partitions, windows, errors and common helpers, and what Node has; never who implements a port.',
      severity: 'error',
      from: { path: `${SRC}/engine/`, pathNot: SPEC },
      to: {
        pathNot: [`${SRC}/(engine|windows|errors|common)/`, `${SRC}/storage/partitions\\.ts$`, PORTS],
        dependencyTypesNot: ['core'],
      },
    },
    {
      name: 'engine-reaches-no-framework',
      comment: 'Not by a detour either: the engine runs in unit tests without Nest and without a database.',
      severity: 'error',
      from: { path: `${SRC}/(errors|windows|flow|engine|common)/`, pathNot: SPEC },
      to: { path: packages('@nestjs', 'mongoose', 'mongodb'), reachable: true },
    },
    {
      name: 'client-reaches-no-nest',
      comment: 'A plain Node script appends with `nestjs-minibatch/client` and must not load the framework for it.',
      severity: 'error',
      from: { path: `${SRC}/client/`, pathNot: SPEC },
      to: { path: packages('@nestjs'), reachable: true },
    },
    {
      name: 'common-knows-no-feature',
      comment: 'Small helpers are below everything else: they may name an error and nothing more.',
      severity: 'error',
      from: { path: `${SRC}/common/`, pathNot: SPEC },
      to: { path: `${SRC}/`, pathNot: `${SRC}/(common|errors)/` },
    },
    {
      name: 'ports-know-no-adapter',
      comment: 'A port is what its adapters have in common; it is written in the terms of windows and other ports.',
      severity: 'error',
      from: { path: PORTS },
      to: {
        path: `${SRC}/`,
        pathNot: [`${SRC}/(windows|errors)/`, PORTS, `${SRC}/streams/`, `${SRC}/common/(clock|log)\\.ts$`],
      },
    },
    {
      name: 'adapters-import-their-port',
      comment:
        'An adapter gets its work through its port. What lies beside the port in its area is shared by its adapters.',
      severity: 'error',
      from: { path: ADAPTER, pathNot: [SPEC, DATASETS] },
      to: {
        path: `${SRC}/`,
        pathNot: [`${SRC}/(errors|common|windows)/`, `${SRC}/$1/`, PORTS],
      },
    },
    {
      name: 'datasets-are-collections',
      comment:
        'What an adapter may import, and the classes that source and sink of datasets extend; nothing behind these.',
      severity: 'error',
      from: { path: DATASETS, pathNot: SPEC },
      to: {
        path: `${SRC}/`,
        pathNot: [
          `${SRC}/(errors|common|windows)/`,
          DATASETS,
          COLLECTION_CLASSES,
          `${SRC}/adapters/[^/]+\\.ts$`,
          PORTS,
        ],
      },
    },
    {
      name: 'adapters-never-import-each-other',
      comment: 'Each adapter can be left out, or taken apart, without looking at the others.',
      severity: 'error',
      from: { path: ADAPTER, pathNot: [SPEC, DATASETS] },
      to: { path: ADAPTER, pathNot: `${SRC}/$1/$2` },
    },
    {
      name: 'adapters-are-wired-in-one-place',
      comment:
        'Features talk to ports. Which adapter is behind one is known to the module, the life cycle and the entry points.',
      severity: 'error',
      from: { path: `${SRC}/`, pathNot: [SPEC, ADAPTER, ...WIRING, ...ENTRY_POINTS, ...EXECUTOR_ENTRIES] },
      to: { path: ADAPTER },
    },
    {
      name: 'engine-is-wired-in-one-place',
      comment: 'Features talk to the engine through engine/engine.interface.ts; only the wiring makes one.',
      severity: 'error',
      from: { path: `${SRC}/`, pathNot: [SPEC, `${SRC}/engine/`, ...WIRING, ...ENTRY_POINTS] },
      to: { path: `${SRC}/engine/`, pathNot: `${SRC}/engine/[^/]+\\.interface\\.ts$` },
    },
    {
      name: 'nobody-imports-the-wiring',
      comment:
        'minibatch.module.ts and minibatch.lifecycle.ts see everything, so who imports them sees everything too.',
      severity: 'error',
      from: { path: `${SRC}/`, pathNot: [SPEC, `${SRC}/index\\.ts$`, ...WIRING] },
      to: { path: `${SRC}/minibatch\\.(module|lifecycle)\\.ts$` },
    },
    {
      name: 'nobody-imports-the-package',
      comment:
        "The package's own index.ts, by its path or by the package's name, is for users; inside it makes cycles.",
      severity: 'error',
      from: { path: `${SRC}/`, pathNot: SPEC },
      to: { path: [`${SRC}/index\\.ts$`, '^libs/minibatch/dist/', ...packages('nestjs-minibatch')] },
    },
    ...Object.entries(OPTIONAL_PEERS).map(([name, folder]) => ({
      name: `${name.replace(/^@/, '').replace('/', '-')}-stays-in-its-adapter`,
      comment: `${name} is an optional peer: whoever does not use its adapter does not have it.`,
      severity: 'error',
      from: { path: `${SRC}/`, pathNot: [SPEC, `${SRC}/${folder}/`] },
      to: { path: packages(name) },
    })),
    {
      name: 'mongoose-stays-where-mongodb-is',
      comment:
        'mongoose is an optional peer, too, and the default store needs it: the wiring and the client load the store when it is chosen. ' +
        'That the main entry imports it nowhere else, in its code or its types, is tested in test/package/public-api.spec.ts.',
      severity: 'error',
      from: {
        path: `${SRC}/`,
        pathNot: [
          SPEC,
          `${SRC}/(storage/mongoose|adapters/(collection|omegaml)|client)/`,
          `${SRC}/minibatch\\.(module|providers)\\.ts$`,
        ],
      },
      to: { path: packages('mongoose', '@nestjs/mongoose') },
    },
    {
      name: 'adapters-take-types-of-mongoose',
      comment:
        "Adapters get a connection of the application's own Mongoose: they import its types, take values from bson, and load the rest by " +
        'import(), with a coded error. Otherwise their entry points could not be imported where it is not installed.',
      severity: 'error',
      from: { path: `${SRC}/adapters/`, pathNot: SPEC },
      to: { path: packages('mongoose', '@nestjs/mongoose'), dependencyTypesNot: ['type-only'], dynamic: false },
    },
    {
      name: 'main-entry-reaches-no-optional-peer',
      comment: 'Nor may what the main entry imports bring one along.',
      severity: 'error',
      from: { path: ENTRY_POINTS },
      to: { path: packages(...Object.keys(OPTIONAL_PEERS)), reachable: true },
    },
    {
      name: 'only-declared-packages',
      comment: "What is not in the package's own package.json is not there where it is installed.",
      severity: 'error',
      from: { path: `${SRC}/`, pathNot: [SPEC, `${SRC}/testing/`] },
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'unknown', 'undetermined'],
        // An optional peer counts as both, declared and not.
        dependencyTypesNot: ['npm-peer'],
      },
    },
    {
      name: 'no-unresolvable',
      comment: 'An import that resolves to nothing.',
      severity: 'error',
      from: { pathNot: SPEC },
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^libs/[^/]+/dist/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['types', 'import', 'default'],
      extensions: ['.ts', '.js', '.mjs', '.cjs', '.json', '.d.ts'],
    },
    skipAnalysisNotInRules: true,
  },
};
