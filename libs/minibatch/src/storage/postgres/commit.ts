import type { Commit, Lease } from '../stream-store.interface.js';
import { numberArray } from './ids.js';
import { type LeaseWrite, Rank } from './lease-writes.js';
import { heldBy, type Statement, statement } from './sql.js';
import { applyEffects, type CommitEffects, type RowOwner } from './state.js';
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

/** The same, and what it replaces: by the windows of the commit point before, a repeated one is known. */
const COMMIT_WITH_EFFECTS = statement(`with former as materialized (
    select c.stream, c.grp, c.partition, c.number, c.finished, s.groups, s.asked, s.has_former_marks
    from minibatch.stream s join minibatch.consumer c on c.stream = s.id
    where s.name = $1 and c.grp = $2 and c.partition = $3 and c.fence = $4 and c.owner->>'id' = $5 for update of c)
  update minibatch.consumer c set finished = $6, progress = $7, counter = c.counter + 1
  from former f where c.stream = f.stream and c.grp = f.grp and c.partition = f.partition
  returning to_json(f.groups) as groups, f.asked, f.has_former_marks, f.stream, f.number, to_json(f.finished) as applied`);

/** The commit point: it also renews the lease. It has a `Committed` for its row. */
export function commitWrite(lease: Lease, { finished, progress }: Commit, effects?: CommitEffects): LeaseWrite {
  const values = [...heldBy(lease), numberArray(finished), packProgress(progress)];
  const write = (sent: Statement) => ({
    what: 'commit',
    rank: Rank.Commit,
    steps: [{ statement: { synced: sent, unsynced: sent }, values }],
  });
  if (!effects) return write(COMMIT);
  return {
    ...write(COMMIT_WITH_EFFECTS),
    together: (queries, row) => {
      const { applied, ...owner } = row as RowOwner & { readonly applied: readonly number[] };
      return applyEffects(queries, owner, applied, effects);
    },
  };
}
