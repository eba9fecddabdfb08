import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startChild } from './child.mjs';
import { onPath } from './find-mongod.mjs';

const run = promisify(execFile);
const POM = fileURLToPath(new URL('pom.xml', import.meta.url));
const SOURCE = fileURLToPath(new URL('MongoTestServer.java', import.meta.url));
const PACKAGES = ['maven', 'openjdk-17-jre-headless'];

export const JAVA_SERVER = 'mongo-java-server 1.47.0';

/** Starts mongo-java-server; without `file` it keeps its data in memory. */
export async function startJavaServer({ port = 0, file, oplog = false, temporary }) {
  const classpath = await prepare();
  const args = ['-Xmx1g', '-XX:+UseSerialGC', '-cp', classpath, 'MongoTestServer', String(port), file ?? '-'];
  if (oplog) args.push('oplog');
  const child = await startChild('java', args, { ready: /^READY (mongodb:\/\/\S+)/, temporary });
  return { ...child, uri: child.match[1] };
}

/** Jars and the compiled launcher, made once a machine. Resolves with the class path. */
async function prepare() {
  const version = createHash('sha256')
    .update(await readFile(POM))
    .update(await readFile(SOURCE))
    .digest('hex');
  const root = await cacheFolder();
  const folder = join(root, `mongo-test-server-${version.slice(0, 12)}`);
  const classpath = [folder, join(folder, '*')].join(delimiter);
  if (await exists(folder)) return classpath;

  await needTools();
  const draft = await mkdtemp(join(root, '.draft-'));
  try {
    await build(draft);
    // Another start may have been faster: then both made the same, and the rename fails.
    await rename(draft, folder).catch(async (error) => {
      if (!(await exists(folder))) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return classpath;
}

async function build(folder) {
  const maven = ['-q', '-B', '-f', POM, 'dependency:copy-dependencies', '-DincludeScope=runtime'];
  await run('mvn', [...maven, `-DoutputDirectory=${folder}`]);
  const jars = (await readdir(folder)).map((name) => join(folder, name));
  // By module, because a JRE that holds the compiler has no `javac` command; the module does not expand `*` in class paths.
  const compiler = ['-m', 'jdk.compiler/com.sun.tools.javac.Main', '-cp', jars.join(delimiter)];
  await run('java', [...compiler, '-d', folder, SOURCE]);
}

async function needTools() {
  if ((await onPath('java')) && (await onPath('mvn'))) return;
  if (process.env.CI === 'true' && process.getuid?.() === 0 && (await onPath('apt-get'))) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    await run('apt-get', ['update', '-q'], { env }).catch(() => {}); // what is cached may be enough
    await run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...PACKAGES], { env, maxBuffer: 2 ** 26 });
    return;
  }
  throw new Error(`it needs Java 17 and Maven (Debian: apt-get install ${PACKAGES.join(' ')})`);
}

async function cacheFolder() {
  for (const base of [process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), tmpdir()]) {
    const folder = join(base, 'nestjs-minibatch');
    const made = await mkdir(folder, { recursive: true }).then(
      () => true,
      () => false,
    );
    if (made) return folder;
  }
  throw new Error('no folder to cache it in can be written');
}

function exists(path) {
  return access(path).then(
    () => true,
    () => false,
  );
}
