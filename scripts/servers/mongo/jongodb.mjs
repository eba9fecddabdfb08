import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { startChild } from '../child.mjs';

const PACKAGE = '@jongodb/memory-server-bin-linux-x64-gnu';

/**
 * A server in memory that says it is a replica set and has transactions, from an optional package of one binary. For tests of
 * transactions only: it bears a thousand documents, knows no write conflicts, and rejects an unordered insert with a duplicate
 * as a whole. Undefined where the package is not installed.
 */
export async function startTransactionalServer() {
  const binary = findBinary();
  if (binary === undefined) return undefined;
  const topology = ['--topology-profile=singleNodeReplicaSet', '--replica-set-name=rs0'];
  const args = ['--host=127.0.0.1', '--port=0', '--database=test', ...topology];
  const server = await startChild(binary, args, { ready: /^JONGODB_URI=(\S+)$/ });
  const uri = server.match[1].replace('/test?', '/?');
  return {
    uri,
    stop: async () => {
      server.kill('SIGTERM');
      await server.exited;
    },
  };
}

export function findBinary() {
  try {
    return join(dirname(createRequire(import.meta.url).resolve(`${PACKAGE}/package.json`)), 'bin/jongodb');
  } catch {
    return undefined;
  }
}
