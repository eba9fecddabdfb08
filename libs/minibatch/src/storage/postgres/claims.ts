import { leaseLost } from '../../errors/store-faults.js';
import type { Lease, Recovery, WindowRecord } from '../stream-store.interface.js';
import type { Database } from './database.js';
import { numberArray } from './ids.js';
import { type LeaseWrite, Rank } from './lease-writes.js';
import { consumerOf, fenced, heldBy, HELD_FOR_SHARE, IS_HELD, statement, STREAM } from './sql.js';
import { packWindow, type PackedWindow, unpackProgress, unpackWindow } from './window-codec.js';

interface ConsumerRow {
  readonly finished: readonly number[];
  readonly progress: Buffer | null;
  readonly groups: readonly string[];
}

const CONSUMER = statement(`select to_json(finished) as finished, progress,
  (select to_json(groups) from minibatch.stream where name = $1) as groups from minibatch.consumer where ${IS_HELD}`);
const WINDOWS = statement(`select record, ids from minibatch.claim
  where stream = ${STREAM} and grp = $2 and partition = $3 order by seq`);
/** The windows are in one run of bytes, each as its record and its ids: the driver sends that without turning it into text. */
const CLAIM = fenced(`
  claimed as (insert into minibatch.claim (stream, grp, partition, seq, record, ids)
    select ${STREAM}, $2, $3, w.seq, substring($6::bytea from w.start for w.record), substring($6::bytea from w.start + w.record for w.ids)
    from unnest($7::bigint[], $8::int[], $9::int[], $10::int[]) w(seq, start, record, ids) where exists (select 1 from held)
    on conflict (stream, grp, partition, seq) do update set record = excluded.record, ids = excluded.ids)`);
const RESCHEDULE = statement(`with held as materialized (${HELD_FOR_SHARE}),
  changed as (update minibatch.claim set record = $7
    where stream = ${STREAM} and grp = $2 and partition = $3 and seq = $6 and exists (select 1 from held))
  select 1 from held`);

/** The lease is checked with each claim, so no window is ever void. @throws LeaseLost */
export async function recover(database: Database, lease: Lease): Promise<Recovery> {
  const [consumer] = await database.query<ConsumerRow>('recover a consumer', CONSUMER, heldBy(lease));
  if (!consumer) throw leaseLost(lease.key);
  const windows = await claimedWindows(database, lease.key);
  const finished = new Set(consumer.finished);
  return {
    progress: unpackProgress(consumer.progress),
    finished: windows.filter(({ seq }) => finished.has(seq)),
    open: windows.filter(({ seq }) => !finished.has(seq)),
    groups: consumer.groups,
  };
}

/** In the order of their numbers. */
export async function claimedWindows(database: Database, key: Lease['key']): Promise<WindowRecord[]> {
  const rows = await database.query<PackedWindow>('read windows', WINDOWS, consumerOf(key));
  return rows.map(unpackWindow);
}

/** @param windows one at least */
export function claimWrite(lease: Lease, windows: readonly WindowRecord[]): LeaseWrite {
  const parts: Buffer[] = [];
  const starts: number[] = [];
  const records: number[] = [];
  const ids: number[] = [];
  let end = 1;
  for (const window of windows) {
    const packed = packWindow(window);
    parts.push(packed.record, packed.ids);
    starts.push(end);
    records.push(packed.record.length);
    ids.push(packed.ids.length);
    end += packed.record.length + packed.ids.length;
  }
  const seqs = windows.map(({ seq }) => seq);
  const values = [...heldBy(lease), Buffer.concat(parts), ...[seqs, starts, records, ids].map(numberArray)];
  return { what: 'claim windows', rank: Rank.Claim, steps: [{ statement: CLAIM, values }] };
}

/** @throws LeaseLost */
export async function reschedule(database: Database, lease: Lease, window: WindowRecord): Promise<void> {
  const { record } = packWindow(window);
  const held = await database.query('store an attempt', RESCHEDULE, [...heldBy(lease), window.seq, record]);
  if (held.length === 0) throw leaseLost(lease.key);
}
