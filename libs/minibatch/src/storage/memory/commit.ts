import type { Commit, Lease } from '../stream-store.interface.js';
import { held } from './leases.js';
import type { MemoryDatabase } from './memory.database.js';

/** The commit point: it also renews the lease. @throws LeaseLost */
export function commit(
  database: MemoryDatabase,
  lease: Lease,
  { finished, progress }: Commit,
): { groups: string[]; asked: number } {
  const { stream, consumer } = held(database, lease);
  consumer.finished = [...finished];
  consumer.progress = { ...progress };
  consumer.counter += 1;
  return { groups: [...stream.groups], asked: stream.asked };
}
