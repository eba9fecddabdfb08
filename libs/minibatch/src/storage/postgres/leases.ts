import type { ConsumerKey, Lease, LeaseOwner, LeaseState, Renewal, RenewalNotice } from '../stream-store.interface.js';
import type { Database } from './database.js';
import { heldBy, IS_HELD, statement, STREAM } from './sql.js';

/** A lease as `LEASE` reads it. */
export interface LeaseRow {
  readonly owner: LeaseOwner | null;
  readonly heir: LeaseOwner | null;
  readonly fence: number;
  readonly counter: number;
  readonly hold_time: number | null;
}

interface ReadRow {
  readonly owner: LeaseOwner | null;
  readonly heir: LeaseOwner | null;
  readonly fence: number | null;
  readonly counter: number | null;
  readonly hold_time: number | null;
  readonly removed_fence: number | null;
  readonly registered: boolean | null;
}

const READ =
  statement(`select c.owner, c.heir, c.fence, c.counter, c.hold_time, s.removed_fence, k.grp = any(s.groups) as registered
  from unnest($1::text[], $2::text[], $3::int[]) with ordinality k(stream, grp, partition, n)
  left join minibatch.stream s on s.name = k.stream
  left join minibatch.consumer c on c.stream = s.id and c.grp = k.grp and c.partition = k.partition order by k.n`);
const ACQUIRE =
  statement(`update minibatch.consumer set owner = $4, heir = null, fence = fence + 1, counter = counter + 1, hold_time = $5
  where stream = ${STREAM} and grp = $2 and partition = $3 and fence = $6 and counter = $7 returning fence`);
const PRESENT = statement(`select owner->>'id' as owner, fence from minibatch.consumer
  where stream = ${STREAM} and grp = $2 and partition = $3`);
/** The lock: a group that is being removed gets no consumer any more. */
const ADD =
  statement(`with registered as (select id, removed_fence from minibatch.stream where name = $1 and $2 = any(groups) for share)
  insert into minibatch.consumer (stream, grp, partition, fence, first_fence)
  select id, $2, $3, removed_fence, removed_fence from registered on conflict do nothing returning 1 as added`);
const RENEW = statement(`with renewed as (
    update minibatch.consumer c set counter = c.counter + 1, hold_time = coalesce(k.hold_time, c.hold_time)
    from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::float8[], $7::text[]) with ordinality
      k(stream, grp, partition, fence, owner, hold_time, note, n)
    join minibatch.stream s on s.name = k.stream
    where c.stream = s.id and c.grp = k.grp and c.partition = k.partition and c.fence = k.fence and c.owner->>'id' = k.owner
    returning k.n, c.heir, c.stream, c.number, k.note),
  noted as (
    insert into minibatch.note select stream, number, note from renewed where note is not null
    on conflict (stream, consumer) do update set note = excluded.note)
  select n, heir from renewed`);
/** Again by the same heir: the answer to an earlier call may have been lost. */
const REQUEST = statement(`update minibatch.consumer set heir = $6
  where stream = ${STREAM} and grp = $2 and partition = $3 and fence = $4 and owner is not null
    and (heir is null or heir->>'id' = $5 or heir->>'id' = $6::jsonb->>'id') returning 1 as one`);
const WITHDRAW = statement(`update minibatch.consumer set heir = null
  where stream = ${STREAM} and grp = $2 and partition = $3 and fence = $4 and heir->>'id' is not distinct from $5 returning 1 as one`);
const RELEASE = statement(
  `update minibatch.consumer set owner = null, hold_time = null, counter = counter + 1 where ${IS_HELD}`,
);

export async function readLeases(database: Database, keys: readonly ConsumerKey[]): Promise<readonly LeaseState[]> {
  if (keys.length === 0) return [];
  const rows = await database.query<ReadRow>('read leases', READ, [
    keys.map(({ stream }) => stream),
    keys.map(({ group }) => group),
    keys.map(({ partition }) => partition),
  ]);
  return rows.map((row): LeaseState => {
    const { owner, heir, fence, counter, hold_time, removed_fence, registered } = row;
    if (removed_fence === null) return { fence: 0, counter: 0, missing: true };
    if (registered && fence !== null && counter !== null) return stateOf({ owner, heir, fence, counter, hold_time });
    // A stream that was dropped and created again knows nothing of the consumer. Where groups were removed it may be one of them, and
    // must not come back.
    const isMissing = !registered && removed_fence === 0;
    return { fence: removed_fence, counter: 0, ...(isMissing && { missing: true as const }) };
  });
}

export async function acquireLease(
  database: Database,
  key: ConsumerKey,
  owner: LeaseOwner,
  expected: LeaseState,
  holdTime: number | undefined,
): Promise<Lease | undefined> {
  const place = [key.stream, key.group, key.partition];
  const acquire = () =>
    database.query<{ fence: number }>('acquire a lease', ACQUIRE, [
      ...place,
      JSON.stringify(owner),
      holdTime ?? null,
      expected.fence,
      expected.counter,
    ]);
  let [taken] = await acquire();
  if (!taken) {
    const [present] = await database.query<{ owner: string | null; fence: number }>('acquire a lease', PRESENT, place);
    // The answer to an earlier call may have been lost: the lease is this owner's already.
    if (present?.owner === owner.id && present.fence === expected.fence + 1)
      return { key, owner, fence: present.fence };
    if (present || (await database.query('acquire a lease', ADD, place)).length === 0) return undefined;
    [taken] = await acquire();
  }
  return taken && { key, owner, fence: taken.fence };
}

/** False if the lease is not as expected. */
export async function requestLease(
  database: Database,
  { stream, group, partition }: ConsumerKey,
  heir: LeaseOwner | undefined,
  expected: LeaseState,
): Promise<boolean> {
  const values = [stream, group, partition, expected.fence, expected.heir?.id ?? null];
  const changed =
    heir === undefined
      ? await database.query('withdraw from a lease', WITHDRAW, values)
      : await database.query('ask for a lease', REQUEST, [...values, JSON.stringify(heir)]);
  return changed.length > 0;
}

export async function renewLeases(database: Database, leases: readonly Renewal[]): Promise<readonly RenewalNotice[]> {
  if (leases.length === 0) return [];
  const renewed = await database.query<{ n: number; heir: LeaseOwner | null }>('renew leases', RENEW, [
    leases.map(({ key }) => key.stream),
    leases.map(({ key }) => key.group),
    leases.map(({ key }) => key.partition),
    leases.map(({ fence }) => fence),
    leases.map(({ owner }) => owner.id),
    leases.map(({ holdTime }) => holdTime ?? null),
    leases.map(({ note }) => note ?? null),
  ]);
  const heirs = new Map(renewed.map(({ n, heir }) => [n, heir]));
  return leases.flatMap(({ key, owner, fence }, index) => {
    const heir = heirs.get(index + 1);
    // Renewed, and nobody asks for it.
    if (heir === null) return [];
    return heir === undefined ? { key, owner, fence } : { key, owner, fence, heir };
  });
}

export async function releaseLease(database: Database, lease: Lease): Promise<void> {
  await database.query('release a lease', RELEASE, heldBy(lease));
}

export function stateOf({ owner, heir, fence, counter, hold_time }: LeaseRow): LeaseState {
  return {
    ...(owner !== null && { owner }),
    ...(heir !== null && { heir }),
    fence,
    counter,
    ...(hold_time !== null && { holdTime: hold_time }),
  };
}
