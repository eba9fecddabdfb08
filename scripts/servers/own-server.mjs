import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * A server program that is ours: started in a folder of its own, killed, started again on the same address.
 *
 * @template {{ pid?: number, exited: Promise<void>, kill(signal: NodeJS.Signals): boolean }} S
 * @param {string} name
 * @param {string | undefined} given a folder to keep the data in; otherwise a temporary one, which `stop()` removes
 * @param {(place: { dir: string, temporary: string }) => Promise<S>} start called again by `restart()`
 */
export async function ownServer(name, given, start) {
  const temporary = given ? '' : await mkdtemp(join(tmpdir(), `minibatch-${name}-`));
  const dir = given ?? temporary;
  const remove = async () => {
    if (temporary) await rm(temporary, { recursive: true, force: true, maxRetries: 5 });
  };
  await mkdir(dir, { recursive: true });
  let server = await start({ dir, temporary }).catch(async (error) => {
    await remove();
    throw error;
  });
  const end = async (signal) => {
    server.kill(signal);
    await server.exited;
  };
  return {
    get pid() {
      return server.pid;
    },
    kill9: () => end('SIGKILL'),
    restart: async () => {
      await end('SIGTERM');
      server = await start({ dir, temporary });
    },
    stop: async () => {
      await end('SIGTERM');
      await remove();
    },
  };
}
