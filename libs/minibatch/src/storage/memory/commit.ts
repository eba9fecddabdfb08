import type { Commit, Lease } from '../stream-store.interface.js';
import { held } from './leases.js';
import type { MemoryDatabase } from './memory.database.js';
import { applyEffects } from './state.js';

/** The commit point: it also renews the lease. @throws LeaseLost */
export function commit(
  database: MemoryDatabase,
  lease: Lease,
  { finished, progress, effects }: Commit,
): { groups: string[]; asked: number } {
  const { stream, consumer } = held(database, lease);
  if (effects) applyEffects(database, consumer, effects);
  consumer.finished = [...finished];
  consumer.progress = { ...progress };
  consumer.counter += 1;
  return { groups: [...stream.groups], asked: stream.asked };
}
