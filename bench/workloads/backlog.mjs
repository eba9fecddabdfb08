import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { hasIndexes } from '../lib/servers.mjs';

const run = promisify(execFile);
const SCRIPT = fileURLToPath(new URL('../backlog.mjs', import.meta.url));

/** Does a long backlog cost more than a short one? By backlog.mjs, in windows of 1000. */
export default async function backlog(subject, { long, short }, { servers }) {
  const where = await store(subject, servers);
  if (!where) return undefined;
  const sizes = ['--long', String(long), '--short', String(short)];
  const { stdout } = await run(process.execPath, [SCRIPT, '--json', '--rounds', '1', ...sizes, ...where]);
  const [result] = JSON.parse(stdout);
  return {
    messages: long,
    rate: result.long.rate,
    shortRate: result.short.rate,
    ratio: result.long.rate / result.short.rate,
    memory: result.long,
    lost: 0,
    repeated: 0,
  };
}

/** Undefined where each find would look at all messages. */
async function store(subject, servers) {
  if (subject.name === 'ours-lmdb') return [];
  return hasIndexes(servers) ? ['--uri', servers.mongo.uri] : undefined;
}
