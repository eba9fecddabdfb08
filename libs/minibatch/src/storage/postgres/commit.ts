import type { Commit, Lease } from '../stream-store.interface.js';
import { numberArray } from './ids.js';
import { type LeaseWrite, Rank } from './lease-writes.js';
import { heldBy, statement } from './sql.js';
import { packProgress } from './window-codec.js';

export interface Committed {
  readonly groups: readonly string[];
  readonly asked: number;
  /** Messages of the stream may be marked by groups that are gone: then `settle` has to look. */
  readonly has_former_marks: boolean;
}

const COMMIT = statement(`update minibatch.consumer c set finished = $6, progress = $7, counter = c.counter + 1
  from minibatch.stream s
  where s.name = $1 and c.stream = s.id and c.grp = $2 and c.partition = $3 and c.fence = $4 and c.owner->>'id' = $5
  returning to_json(s.groups) as groups, s.asked, s.has_former_marks`);

/** The commit point: it also renews the lease. It has a `Committed` for its row. */
export function commitWrite(lease: Lease, { finished, progress }: Commit): LeaseWrite {
  const values = [...heldBy(lease), numberArray(finished), packProgress(progress)];
  return { what: 'commit', rank: Rank.Commit, steps: [{ statement: { synced: COMMIT, unsynced: COMMIT }, values }] };
}
