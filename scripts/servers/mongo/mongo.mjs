import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { downloadedMongod, installedMongod } from './find-mongod.mjs';
import { missingServer } from '../missing.mjs';
import { JAVA_SERVER, prepareJavaServer, startJavaServer } from './java-server.mjs';
import { startMongod } from './mongod.mjs';
import { probe } from './probe.mjs';
import { prepareSecantus, SECANTUS, startSecantus } from './secantus.mjs';

/**
 * MongoDB for tests and benchmarks: the first of what is there.
 *
 * 1. the server of MONGODB_URI (unless one is wanted that may be killed)
 * 2. a mongod: MONGOMS_SYSTEM_BINARY, on PATH, or the one mongodb-memory-server downloads
 * 3. mongo-java-server, which speaks the protocol but ignores non-unique indexes and has no transactions
 *
 * What it starts dies with this process.
 */
export async function startMongo(options = {}) {
  const own = Boolean(options.durable || options.port || options.dir);
  const uri = process.env.MONGODB_URI;
  if (uri && !own) {
    const supports = await probe(uri).catch((error) => {
      throw new Error(`The MongoDB of MONGODB_URI does not answer: ${error.message}`, { cause: error });
    });
    if (supports.changeStreams || !options.oplog) return external(uri, supports);
  }
  return ownServer(await chooseServer(), options);
}

/**
 * A replica set of one member, with transactions, change streams, indexes and fail points: a mongod if there is one, otherwise SecantusDB.
 *
 * What it starts dies with this process.
 */
export async function startReplicaSet(options = {}) {
  return ownServer((await findMongod()) ?? secantus(), { ...options, testCommands: true });
}

/** Installs what `startMongo()` starts, unless a server is named. Resolves with what that is. */
export async function prepareMongo() {
  if (process.env.MONGODB_URI) return 'MONGODB_URI';
  const found = await findMongod();
  if (found) return found.label;
  await prepareJavaServer();
  return JAVA_SERVER;
}

/** Installs what `startReplicaSet()` starts. Resolves with what that is. */
export async function prepareReplicaSet() {
  const found = await findMongod();
  return found ? found.label : (await prepareSecantus()).label;
}

/** The server's program that is preferred. */
async function chooseServer() {
  return (await findMongod()) ?? javaServer();
}

async function findMongod() {
  const binary = await installedMongod();
  if (binary) return mongod(binary, 'mongod');
  const downloaded = await downloadedMongod().catch(() => undefined);
  return downloaded && mongod(downloaded, 'mongodb-memory-server');
}

function javaServer() {
  return {
    kind: 'mongo-java-server',
    label: JAVA_SERVER,
    supports: ({ oplog }) => ({ transactions: false, changeStreams: oplog === true, indexes: false }),
    start: ({ durable, oplog, port, dir, temporary }) =>
      startJavaServer({ port, oplog, temporary, file: durable ? join(dir, 'data.mv') : undefined }),
  };
}

function mongod(binary, kind) {
  return {
    kind,
    label: `${kind} (${binary})`,
    supports: () => ({ transactions: true, changeStreams: true, indexes: true }),
    start: ({ port, dir, temporary, testCommands }) => startMongod({ binary, dir, port, temporary, testCommands }),
  };
}

function secantus() {
  return {
    kind: 'secantusdb',
    label: SECANTUS,
    supports: () => ({ transactions: true, changeStreams: true, indexes: true }),
    start: ({ durable, port, dir, temporary }) => startSecantus({ durable, port, dir, temporary }),
  };
}

function external(uri, supports) {
  const refuse = async () => {
    throw new Error('The server of MONGODB_URI is not ours to stop');
  };
  return {
    uri,
    kind: 'uri',
    label: 'MONGODB_URI',
    pid: undefined,
    supports,
    kill9: refuse,
    restart: refuse,
    stop: async () => {},
  };
}

async function ownServer(program, options) {
  const temporary = options.dir ? undefined : await mkdtemp(join(tmpdir(), 'minibatch-mongo-'));
  const dir = options.dir ?? temporary;
  await mkdir(dir, { recursive: true });
  const start = (port) =>
    program.start({ ...options, port, dir, temporary }).catch(async (error) => {
      if (temporary) await rm(temporary, { recursive: true, force: true });
      if (missingServer(error)) throw error;
      throw new Error(
        `No MongoDB for tests: ${program.label} can't be started: ${error.message}. Other ways: set MONGODB_URI, or put a mongod on PATH`,
        { cause: error },
      );
    });
  let server = await start(options.port);
  const { uri } = server;
  const port = Number(new URL(uri).port);
  const end = async (signal) => {
    server.kill(signal);
    await server.exited;
  };
  return {
    uri,
    kind: program.kind,
    label: program.label,
    get pid() {
      return server.pid;
    },
    supports: program.supports(options),
    kill9: () => end('SIGKILL'),
    restart: async () => {
      await end('SIGTERM');
      server = await start(port);
    },
    stop: async () => {
      await end('SIGTERM');
      if (temporary) await rm(temporary, { recursive: true, force: true });
    },
  };
}
