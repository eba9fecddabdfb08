import { execFile } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { MissingServerError, tryOnce } from './missing.mjs';
import { cached } from './cache.mjs';
import { needTool } from './programs.mjs';
import { howToGet, TOOLS } from './tools.mjs';

const run = promisify(execFile);

/**
 * A Java program with the jars that a pom.xml names, fetched once a machine.
 *
 * @param {object} wanted
 * @param {string} wanted.server what it is, for people
 * @param {string} wanted.name of the cache's folder; says all that its content depends on
 * @param {string} wanted.pom
 * @param {(java: string, folder: string) => Promise<void>} [wanted.compile] adds to the folder
 * @returns {Promise<{ java: string, folder: string }>}
 */
export async function javaProgram({ server, name, pom, compile = async () => {} }) {
  const [java, mvn] = await needTool('java', server);
  // macOS has a program of this name that only says where to get one.
  if (process.platform === 'darwin') {
    await run(java, ['-version']).catch((error) => {
      throw new MissingServerError(server, howToGet(TOOLS.java, { platform: 'darwin', hasApt: false }), {
        cause: error,
      });
    });
  }
  const make = async (folder) => {
    await fetchJars({ java, mvn, pom, folder });
    await compile(java, folder);
  };
  const folder = await tryOnce(name, () => cached(name, make)).catch((error) => {
    throw new MissingServerError(server, 'Maven must be able to fetch its jars', { cause: error });
  });
  return { java, folder };
}

/** Maven says what went wrong on stdout, of which Node's error holds nothing. */
async function fetchJars({ mvn, pom, folder }) {
  const args = ['-q', '-B', '-f', pom, 'dependency:copy-dependencies', '-DincludeScope=runtime'];
  // Java takes the home folder from the user database and ignores HOME; the one of a service account does not exist.
  const repository = `-Dmaven.repo.local=${join(homedir(), '.m2/repository')}`;
  try {
    await run(mvn, [...args, repository, `-DoutputDirectory=${folder}`], { maxBuffer: 2 ** 26 });
  } catch (error) {
    throw new Error(`${mvn} failed:\n${error.stdout || error.stderr || error.message}`, { cause: error });
  }
}
