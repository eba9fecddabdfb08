import type { Commit, Lease } from '../stream-store.interface.js';
import { held, saveConsumer } from './leases.js';
import { applyEffects, type PreparedEffects } from './state.js';
import { groupNames } from './stream-records.js';
import type { WriteView } from './view.js';

/**
 * The commit point: it also renews the lease.
 *
 * @param effects what `prepareEffects` has made of the commit's effects
 * @throws LeaseLost
 */
export function commit(
  view: WriteView,
  lease: Lease,
  { finished, progress }: Commit,
  effects: readonly PreparedEffects[] | undefined,
): { groups: string[]; asked: number } {
  const { stream, place, consumer } = held(view, lease);
  if (effects) applyEffects(view, place, consumer.finished, effects);
  saveConsumer(view, place, { ...consumer, counter: consumer.counter + 1, finished: [...finished], progress });
  return { groups: groupNames(stream), asked: stream.asked ?? 0 };
}
