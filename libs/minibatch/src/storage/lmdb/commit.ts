import type { Commit, Lease } from '../stream-store.interface.js';
import { held, saveConsumer } from './leases.js';
import { groupNames } from './stream-records.js';
import type { WriteView } from './view.js';

/** The commit point: it also renews the lease. @throws LeaseLost */
export function commit(
  view: WriteView,
  lease: Lease,
  { finished, progress }: Commit,
): { groups: string[]; asked: number } {
  const { stream, place, consumer } = held(view, lease);
  saveConsumer(view, place, { ...consumer, counter: consumer.counter + 1, finished: [...finished], progress });
  return { groups: groupNames(stream), asked: stream.asked ?? 0 };
}
