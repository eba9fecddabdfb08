import { access, constants, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder that outlives the run, for what is made once a machine. */
export async function cacheFolder() {
  for (const base of [process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), tmpdir()]) {
    const folder = join(base, 'nestjs-minibatch');
    const made = await mkdir(folder, { recursive: true })
      .then(() => access(folder, constants.W_OK))
      .then(
        () => true,
        () => false,
      );
    if (made) return folder;
  }
  throw new Error('no folder to cache it in can be written');
}

/**
 * A folder of the cache, made once: `make` fills a draft, which takes the folder's place when it is whole. Two processes that
 * make it at the same time make the same.
 *
 * @param {string} name says all that its content depends on
 * @param {(folder: string) => Promise<void>} make
 */
export async function cached(name, make) {
  const root = await cacheFolder();
  const folder = join(root, name);
  if (await exists(folder)) return folder;
  const draft = await mkdtemp(join(root, '.draft-'));
  try {
    await make(draft);
    await rename(draft, folder).catch(async (error) => {
      if (!(await exists(folder))) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return folder;
}

export function exists(path) {
  return access(path).then(
    () => true,
    () => false,
  );
}
