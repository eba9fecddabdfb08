import type { Lease, MessageId, SettledWindow, SettleOptions } from '../stream-store.interface.js';
import { isAmong, numberArray, numberSet } from './ids.js';
import { type LeaseWrite, Rank, type Step } from './lease-writes.js';
import { leaving } from './message-removal.js';
import { fenced, type FencedStatement, heldBy, markOf, STREAM } from './sql.js';

/** The messages of the settled windows, by the values of `step`. */
const settled = (id: string) => isAmong(id, { array: '$6', low: '$7', high: '$8' });

/** The common case: no other group, nothing kept. */
const plain = (dedupe: boolean) => `
  windows as (delete from minibatch.claim where stream = ${STREAM} and grp = $2 and partition = $3 and seq = any($9::bigint[])
    and exists (select 1 from held)),
  messages as (delete from minibatch.message where stream = ${STREAM} and partition = $3
    and ${settled('id')} and exists (select 1 from held)${dedupe ? ' returning dedupe' : ''})
  ${
    dedupe
      ? `, tombstones as (update minibatch.dedupe e set settled = $10
    where e.stream = ${STREAM} and e.key = any(array(select m.dedupe from messages m)))`
      : ''
  }`;
const PLAIN = fenced(plain(false));
const DEDUPED = fenced(plain(true));

/** The lock that `fenced` takes: a group that is being removed leaves no marks behind. */
const MARK = fenced(`
  marked as (insert into minibatch.done (stream, partition, id, grp, kept)
    select m.stream, m.partition, m.id, $2, $9 from minibatch.message m
    where m.stream = ${STREAM} and m.partition = $3 and ${settled('m.id')}
      and exists (select 1 from held)
    on conflict (stream, partition, id, grp, former) do update set kept = true where excluded.kept and not done.kept)`);
const LEAVES = `x.partition = $3 and ${settled('x.id')} and exists (select 1 from held)
    and (not $13::boolean or ${markOf({ partition: '$3', id: 'x.id', group: '$2' })} is not null)
    and not exists (select 1 from waiting w where ${markOf({ partition: '$3', id: 'x.id', group: 'w.name' })} is null)`;
/**
 * A group that was removed after the commit point holds nothing back. Messages that are not known to be the group's own to remove have to
 * be marked by it (`$13`).
 */
const LEAVE = fenced(
  `
  waiting as (select w.name from unnest($10::text[]) w(name), minibatch.stream s where s.name = $1 and w.name = any(s.groups)),
  ${leaving('$11::float8', '$12::boolean', LEAVES)},
  windows as (delete from minibatch.claim where stream = ${STREAM} and grp = $2 and partition = $3 and seq = any($9::bigint[])
    and exists (select 1 from held) returning seq, record, ids),
  kept_windows as (insert into minibatch.kept_window (settled, stream, partition, grp, record, ids)
    select $11::float8, ${STREAM}, $3, $2, record, ids from windows where $12::boolean order by seq)`,
  { replanned: true },
);

/**
 * What follows the commit point: messages and windows leave, or are kept. It is on disk when it is answered: the process may outlive a
 * server that crashes, and does not name these windows again.
 *
 * @param hasFormerMarks as the commit point has returned it
 */
export function settleWrite(
  lease: Lease,
  windows: readonly SettledWindow[],
  { groups, keep, at = new Date() }: SettleOptions,
  hasFormerMarks: boolean,
): LeaseWrite {
  const messages = windows.flatMap((each) => each.messages);
  const seqs = numberArray(windows.map(({ window }) => window.seq));
  const others = groups.filter((group) => group !== lease.key.group);
  const time = at.getTime();
  const steps: Step[] = [];
  const step = (statement: FencedStatement, ids: readonly MessageId[], more: readonly unknown[]) => {
    const { array, low, high } = numberSet(ids);
    steps.push({ statement, values: [...heldBy(lease), array, low, high, ...more] });
  };
  // Before the windows leave, by which the next holder finds them.
  const hidden = hiddenOf(windows, messages.length);
  if (hidden.length > 0) step(LEAVE, hidden, ['{}', others, time, keep, true]);
  const ids = messages.map(({ id }) => id);
  if (others.length === 0 && !keep && !hasFormerMarks) {
    if (messages.some(({ deduped }) => deduped)) step(DEDUPED, ids, [seqs, time]);
    else step(PLAIN, ids, [seqs]);
  } else {
    // Two statements: of two groups that settle at the same time, the one that looks second sees the marks of both.
    if (others.length > 0 && messages.length > 0) step(MARK, ids, [keep]);
    step(LEAVE, ids, [seqs, others, time, keep, others.length > 0]);
  }
  return { what: 'settle windows', rank: Rank.Settle, steps };
}

/**
 * Messages of the windows that were not fetched. They are gone, or the group has marked them and its process ended before it looked
 * whether they can leave: then reads do not show them any more.
 */
function hiddenOf(windows: readonly SettledWindow[], fetched: number): readonly MessageId[] {
  const ofBuffer = windows.filter(({ window }) => !window.slots);
  const all = ofBuffer.reduce((sum, { window }) => sum + window.messageIds.length, 0);
  if (all === fetched) return [];
  return ofBuffer.flatMap(({ window, messages }) => {
    const present = new Set(messages.map(({ id }) => id));
    return window.messageIds.filter((id) => !present.has(id));
  });
}
