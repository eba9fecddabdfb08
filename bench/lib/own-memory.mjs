import { readFileSync } from 'node:fs';

/** MB of this process's own memory: without files it has mapped, as LMDB's. */
export function ownMemory() {
  const line = /RssAnon:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(line?.[1] ?? process.memoryUsage().rss / 1024) / 1024;
}
