import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startChild } from '../child.mjs';
import { freePort } from '../free-ports.mjs';
import { javaProgram } from '../java.mjs';

const run = promisify(execFile);
const POM = fileURLToPath(new URL('pom.xml', import.meta.url));
const SOURCE = fileURLToPath(new URL('MongoTestServer.java', import.meta.url));

export const JAVA_SERVER = 'mongo-java-server 1.47.0';

/** Starts mongo-java-server; without `file` it keeps its data in memory. */
export async function startJavaServer({ port, file, oplog = false, temporary }) {
  const { java, folder } = await prepareJavaServer();
  const classpath = [folder, join(folder, '*')].join(delimiter);
  const own = port ?? (await freePort());
  const args = ['-Xmx1g', '-XX:+UseSerialGC', '-cp', classpath, 'MongoTestServer', String(own), file ?? '-'];
  if (oplog) args.push('oplog');
  const child = await startChild(java, args, { ready: /^READY (mongodb:\/\/\S+)/, temporary });
  return { ...child, uri: child.match[1] };
}

/** Fetches its jars and compiles the launcher, once a machine. */
export async function prepareJavaServer() {
  const version = createHash('sha256')
    .update(await readFile(POM))
    .update(await readFile(SOURCE))
    .digest('hex');
  return javaProgram({ server: 'MongoDB', name: `mongo-test-server-${version.slice(0, 12)}`, pom: POM, compile });
}

async function compile(java, folder) {
  const jars = (await readdir(folder)).map((name) => join(folder, name));
  // By module, because a JRE that holds the compiler has no `javac` command; the module does not expand `*` in class paths.
  const compiler = ['-m', 'jdk.compiler/com.sun.tools.javac.Main', '-cp', jars.join(delimiter)];
  await run(java, [...compiler, '-d', folder, SOURCE]);
}
