import * as BSON from 'bson';
import { leaseLost } from '../../errors/store-faults.js';
import { createdOf, decodeMessage, encodedOf, originalOf } from '../encoded-message.js';
import { shownOf } from '../lazy-message.js';
import type { DeadLetter, DeadLetterFilter, Lease, NewDeadLetter } from '../stream-store.interface.js';
import type { Database } from './database.js';
import { afterNumber, formatId, numberArray, numberOf } from './ids.js';
import { heldBy, IS_HELD, statement, STREAM } from './sql.js';

type Note = Pick<NewDeadLetter, 'window' | 'consumer' | 'attempts' | 'error' | 'stack'>;

const HOLD = statement(`select 1 from minibatch.consumer where ${IS_HELD} for update`);
const BURY =
  statement(`insert into minibatch.dead_letter (stream, grp, partition, message, original, died, created, note, body)
  select ${STREAM}, $2, $3, l.message, nullif(l.original, -1), l.died, l.created, l.note, l.body
  from unnest($4::bigint[], $5::bigint[], $6::float8[], $7::float8[], $8::bytea[], $9::bytea[]) with ordinality
    l(message, original, died, created, note, body, n)
  where (select 1 from minibatch.dead_letter x where x.stream = ${STREAM} and x.grp = $2 and x.message = l.message limit 1) is null
  order by l.n`);

/** The condition on letters `l`, with the values of `filterOf`. */
export const MATCHES = `l.stream = ${STREAM} and ($2::text is null or l.grp = $2) and ($3::bigint[] is null or l.id = any($3))
  and ($4::float8 is null or l.died < $4)`;

const LIST = statement(`select id, grp, message, died, note, body from (
    select l.*, sum(octet_length(body)) over (order by id rows between unbounded preceding and 1 preceding) as before from (
      select l.id, l.grp, l.message, l.died, l.note, l.body from minibatch.dead_letter l
      where ${MATCHES} and l.id > $5 order by l.id limit $6) l) l
  where before is null or $7::float8 is null or before < $7 order by id`);
const CHUNK = 1_000;
const DISCARD = statement(`with gone as (delete from minibatch.dead_letter where stream = ${STREAM} and id = any(array(
    select l.id from minibatch.dead_letter l where ${MATCHES} order by l.id limit ${CHUNK})) returning 1)
  select count(*)::int as count from gone`);

/** @throws LeaseLost */
export async function bury(database: Database, lease: Lease, letters: readonly NewDeadLetter[]): Promise<void> {
  if (letters.length === 0) return;
  const values = letterValues(letters);
  await database.transaction('store dead letters', async (queries) => {
    // Locked first: another call for the same consumer has committed before this one looks which letters are there.
    if ((await queries.query(HOLD, heldBy(lease))).length === 0) throw leaseLost(lease.key);
    const { stream, group, partition } = lease.key;
    await queries.query(BURY, [stream, group, partition, ...values]);
  });
}

function letterValues(letters: readonly NewDeadLetter[]): readonly unknown[] {
  const bodies = letters.map(({ message }) => encodedOf(message));
  return [
    numberArray(letters.map(({ message }) => numberOf(message.id))),
    numberArray(bodies.map((body) => originalOf(body) ?? -1)),
    numberArray(letters.map(({ died }) => died.getTime())),
    numberArray(bodies.map((body) => createdOf(body).getTime())),
    letters.map(({ window, consumer, attempts, error, stack }) => {
      const note: Note = { window, consumer, attempts, error, ...(stack !== undefined && { stack }) };
      return Buffer.from(BSON.serialize(note));
    }),
    bodies,
  ];
}

export function filterOf(stream: string, { group, ids, before }: DeadLetterFilter): readonly unknown[] {
  return [stream, group ?? null, ids === undefined ? null : numberArray(ids.map(numberOf)), before?.getTime() ?? null];
}

export async function listLetters(
  database: Database,
  stream: string,
  filter: DeadLetterFilter,
  after: string | undefined,
  limit: number,
  bytes?: number,
): Promise<DeadLetter[]> {
  const rows = await database.query<LetterRow>('list dead letters', LIST, [
    ...filterOf(stream, filter),
    afterNumber(after),
    limit,
    bytes ?? null,
  ]);
  return rows.map((row) => toDeadLetter(stream, row));
}

/** Removes them for good. Resolves with how many. */
export async function discardLetters(database: Database, stream: string, filter: DeadLetterFilter): Promise<number> {
  for (let total = 0; ;) {
    const [gone] = await database.query<{ count: number }>('discard dead letters', DISCARD, filterOf(stream, filter));
    if (!gone || gone.count === 0) return total;
    total += gone.count;
  }
}

interface LetterRow {
  readonly id: number;
  readonly grp: string;
  readonly message: number;
  readonly died: number;
  readonly note: Buffer;
  readonly body: Buffer;
}

function toDeadLetter(stream: string, { id, grp, message, died, note, body }: LetterRow): DeadLetter {
  const decoded = decodeMessage(formatId(message), body);
  return {
    id: formatId(id),
    stream,
    group: grp,
    messageId: decoded.id,
    created: decoded.created,
    ...shownOf(() => decoded.read()),
    ...(BSON.deserialize(note) as Note),
    died: new Date(died),
  };
}
