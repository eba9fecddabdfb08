import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const CODE = 'MISSING_SERVER';

/** Tests need something that this machine does not have and that cannot be installed without asking. See missing.d.mts. */
export class MissingServerError extends Error {
  name = 'MissingServerError';
  code = CODE;

  constructor(server, how, options) {
    super(`${server} is missing: ${how}`, options);
    this.server = server;
    this.how = how;
  }
}

/** See missing.d.mts. */
export function missingServer(error) {
  for (let cause = error; typeof cause === 'object' && cause !== null; cause = cause.cause) {
    if (cause.code === CODE) return { server: cause.server, how: cause.how };
  }
  return undefined;
}

/**
 * Runs `attempt`, unless it has already failed in this run: then fails again with the same message. An installation that fails takes
 * long to do so, and every test file is a process of its own. The folder of MINIBATCH_ATTEMPTS holds what failed.
 *
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} attempt
 */
export async function tryOnce(name, attempt) {
  const folder = process.env.MINIBATCH_ATTEMPTS;
  const file = folder && join(folder, name);
  const failure = file && (await readFile(file, 'utf8').catch(() => undefined));
  if (failure) throw new Error(failure);
  try {
    return await attempt();
  } catch (error) {
    // The folder goes with the run; an attempt may outlive it.
    if (file) await writeFile(file, error.message).catch(() => {});
    throw error;
  }
}
