import { unknownGroup } from '../../errors/store-faults.js';
import type { GroupKey, RegisterGroupOptions } from '../stream-store.interface.js';
import type { Database, Queries } from './database.js';
import { removeLeftovers } from './message-removal.js';
import { statement } from './sql.js';
import { removeOrphanedRows } from './state.js';
import { ADD_CONSUMERS, createStreams } from './streams.js';

/** The part of a stream's row that says who its groups are, locked. */
interface GroupList {
  readonly id: number;
  readonly groups: string[];
}

const IS_REGISTERED =
  statement(`select s.groups @> array[$2]::text[] and not s.groups @> array[$3]::text[] as registered
  from minibatch.stream s join minibatch.consumer c on c.stream = s.id and c.grp = $2 and c.partition = 0 where s.name = $1`);
/** The common case: the stream is there, and the group is new and replaces none. It waits for whoever has locked the stream's row. */
const ADD = statement(`with added as (
    update minibatch.stream set groups = groups || array[$2::text] where name = $1 and not groups @> array[$2::text]
    returning id, partitions, removed_fence)
  insert into minibatch.consumer (stream, grp, partition, fence, first_fence)
  select a.id, $2, p.number, a.removed_fence, a.removed_fence
  from added a, generate_series(0, coalesce(a.partitions, 1) - 1) p(number)
  on conflict do nothing returning 1 as one`);
const LOCK = statement('select id, to_json(groups) as groups from minibatch.stream where name = $1 for update');
const SAVE = statement('update minibatch.stream set groups = $2 where id = $1');
const HAS_BEGUN = statement('select 1 from minibatch.consumer where stream = $1 and grp = $2 and fence > first_fence');
const RETIRE_FENCES = statement(`update minibatch.stream set removed_fence = greatest(removed_fence, 1,
  (select max(fence) from minibatch.consumer where stream = $1 and grp = $2)) where id = $1`);

const REMOVE_CONSUMERS = statement('delete from minibatch.consumer where stream = $1 and grp = $2');
const REMOVE_NOTES = statement(`delete from minibatch.note where stream = $1
  and consumer in (select number from minibatch.consumer where stream = $1 and grp = $2)`);
const REMOVE_CLAIMS = statement('delete from minibatch.claim where stream = $1 and grp = $2');
const KEEP_FORMER_MARKS = statement(`with kept as (
    insert into minibatch.done (stream, partition, id, grp, former, kept)
    select stream, partition, id, grp, true, true from minibatch.done where stream = $1 and grp = $2 and kept and not former
    on conflict do nothing returning 1)
  update minibatch.stream set has_former_marks = true where id = $1 and exists (select 1 from kept)`);
const REMOVE_MARKS = statement('delete from minibatch.done where stream = $1 and grp = $2 and not former');
const HIDE_KEPT_WINDOWS = statement('update minibatch.kept_window set grp = null where stream = $1 and grp = $2');

/** A lease that was held under the old name is lost. The new name may have had a higher fence when it was in use before. */
const RENAME_CONSUMERS =
  statement(`update minibatch.consumer c set grp = $3, owner = null, heir = null, hold_time = null,
  counter = counter + 1, fence = s.removed_fence from minibatch.stream s where s.id = $1 and c.stream = $1 and c.grp = $2`);
const RENAME = [
  RENAME_CONSUMERS,
  statement('update minibatch.claim set grp = $3 where stream = $1 and grp = $2'),
  statement('update minibatch.done set grp = $3 where stream = $1 and grp = $2 and not former'),
  statement('update minibatch.kept_window set grp = $3 where stream = $1 and grp = $2'),
];
const RENAME_LETTERS = statement('update minibatch.dead_letter set grp = $3 where stream = $1 and grp = $2');

/** Whoever appends or settles reads the groups in the row that is locked here. */
export async function registerGroup(
  database: Database,
  key: GroupKey,
  { replaces }: RegisterGroupOptions,
): Promise<void> {
  const { stream, group } = key;
  const former = replaces === group ? undefined : replaces;
  const [known] = await database.query<{ registered: boolean }>('register a group', IS_REGISTERED, [
    stream,
    group,
    former ?? null,
  ]);
  if (known?.registered) return;
  if (former === undefined && (await database.query('register a group', ADD, [stream, group])).length > 0) return;
  const leaves = await database.transaction('register a group', async (queries) => {
    await createStreams(queries, [stream]);
    const [list] = await queries.query<GroupList>(LOCK, [stream]);
    // It was dropped in this moment; the transaction is repeated.
    if (!list) return undefined;
    const { id, groups } = list;
    let removed = false;
    if (former !== undefined && groups.includes(former)) {
      // The group keeps what it has done under its own name.
      const begun = (await queries.query(HAS_BEGUN, [id, group])).length > 0;
      const ends = begun ? former : group;
      if (groups.includes(ends)) {
        removed = true;
        await forget(queries, id, ends);
        groups.splice(groups.indexOf(ends), 1);
      }
      if (!begun) {
        await queries.query(RETIRE_FENCES, [id, former]);
        for (const rename of RENAME) await queries.query(rename, [id, former, group]);
        groups[groups.indexOf(former)] = group;
      }
      await queries.query(RENAME_LETTERS, [id, former, group]);
    }
    if (!groups.includes(group)) groups.push(group);
    await queries.query(SAVE, [id, groups]);
    await queries.query(ADD_CONSUMERS, [stream]);
    return removed;
  });
  if (leaves === undefined) return registerGroup(database, key, replaces === undefined ? {} : { replaces });
  if (!leaves) return;
  await removeLeftovers(database, stream);
  await removeOrphanedRows(database, stream);
}

/** @throws UnknownGroup */
export async function removeGroup(database: Database, stream: string, group: string): Promise<void> {
  await database.transaction('remove a group', async (queries) => {
    const [list] = await queries.query<GroupList>(LOCK, [stream]);
    if (!list?.groups.includes(group)) throw unknownGroup(stream, group);
    await forget(queries, list.id, group);
    await queries.query(SAVE, [list.id, list.groups.filter((name) => name !== group)]);
  });
  // Only now: a group that settles at this time looks either at the new list, or before its marks can be seen here.
  await removeLeftovers(database, stream);
  await removeOrphanedRows(database, stream);
}

/** Removes the group, its windows and its progress. What it has kept stays marked; nothing finds its rows of state without its consumers. */
async function forget(queries: Queries, id: number, group: string): Promise<void> {
  await queries.query(RETIRE_FENCES, [id, group]);
  for (const step of [
    REMOVE_NOTES,
    REMOVE_CONSUMERS,
    REMOVE_CLAIMS,
    KEEP_FORMER_MARKS,
    REMOVE_MARKS,
    HIDE_KEPT_WINDOWS,
  ]) {
    await queries.query(step, [id, group]);
  }
}
