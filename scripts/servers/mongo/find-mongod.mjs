import { lookup } from 'node:dns/promises';
import { onPath } from '../programs.mjs';

/** Set once the download has failed, so that later starts, also in child processes, do not try again. */
const FAILED = 'MINIBATCH_TEST_NO_MONGOD_DOWNLOAD';
const DOWNLOAD_HOST = 'fastdl.mongodb.org';

/** A mongod of this machine: MONGOMS_SYSTEM_BINARY, or the first on PATH. */
export async function installedMongod() {
  return process.env.MONGOMS_SYSTEM_BINARY || (await onPath('mongod'));
}

/** The mongod that mongodb-memory-server keeps, downloaded if need be. Rejects where that is impossible. */
export async function downloadedMongod() {
  if (process.env[FAILED]) throw new Error(process.env[FAILED]);
  try {
    const { DryMongoBinary, MongoBinary } = await import('mongodb-memory-server-core');
    const kept = await DryMongoBinary.locateBinary(DryMongoBinary.getEnsuredOptions());
    if (kept) return kept;
    if (process.env.MONGOMS_RUNTIME_DOWNLOAD === 'false') throw new Error('MONGOMS_RUNTIME_DOWNLOAD is false');
    await reachable();
    return await MongoBinary.getPath();
  } catch (error) {
    process.env[FAILED] = `mongodb-memory-server has no mongod: ${error.message}`;
    throw new Error(process.env[FAILED], { cause: error });
  }
}

/** The download itself takes seconds to find out that there is no internet. */
async function reachable() {
  const own = process.env.MONGOMS_DOWNLOAD_URL ?? process.env.MONGOMS_DOWNLOAD_MIRROR;
  if (own || process.env.HTTPS_PROXY || process.env.https_proxy) return;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(reject, 2000, new Error(`${DOWNLOAD_HOST} was not found in 2 s`));
  });
  try {
    await Promise.race([lookup(DOWNLOAD_HOST), late]);
  } finally {
    clearTimeout(timer);
  }
}
