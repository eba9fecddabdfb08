import { startChild } from '../child.mjs';
import { freePort } from '../free-ports.mjs';
import { pythonWith } from '../python/venv.mjs';

/** The name of the replica set that the server says it is. */
const REPLICA_SET = 'secantus';

export const SECANTUS = 'SecantusDB 0.7.0b3';

/** Installed once a machine. Resolves with the interpreter that runs it. */
export function prepareSecantus() {
  return pythonWith('secantusdb');
}

/** Starts SecantusDB, a MongoDB server that is a replica set of one unless it is to be standalone. Its data is in `dir`. */
export async function startSecantus({ dir, port, temporary, durable = false, standalone = false }) {
  const { python } = await prepareSecantus();
  const own = port ?? (await freePort());
  // Isolated: nothing of the user's Python counts.
  const args = ['-I', '-u', '-m', 'secantus', '--host', '127.0.0.1', '--port', String(own), '--storage-path', dir];
  args.push('--cache-size', '1G', '--enable-test-commands');
  if (durable) args.push('--sync-on-commit');
  if (standalone) args.push('--standalone');
  const child = await startChild(python, args, { ready: /listening on 127\.0\.0\.1:(\d+)/, temporary });
  const uri = `mongodb://127.0.0.1:${child.match[1]}/`;
  return { ...child, uri: standalone ? uri : `${uri}?replicaSet=${REPLICA_SET}` };
}
