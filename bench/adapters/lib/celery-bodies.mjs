import { randomUUID } from 'node:crypto';

/** Bodies with `each` events of about 200 bytes, as workers send them. */
export function celeryBodies(count, each) {
  const events = Array.from({ length: count }, (_, clock) => ({
    ...{ hostname: 'w@host', utcoffset: 0, pid: 1, clock, timestamp: Date.now() / 1000, type: 'task-succeeded' },
    ...{ uuid: randomUUID(), result: "'ok'", runtime: 0.01 },
  }));
  const lists = [];
  for (let from = 0; from < count; from += each) lists.push(JSON.stringify(events.slice(from, from + each)));
  return lists;
}
