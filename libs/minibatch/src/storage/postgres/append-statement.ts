import { createHash } from 'node:crypto';
import { positionsSql } from './checkpoints.js';
import { type Draft, isDeduped } from './drafts.js';
import { hexSql, numberArray } from './ids.js';
import { type Statement, statement } from './sql.js';

export interface Sent {
  readonly statement: Statement;
  readonly values: readonly unknown[];
}

export interface AppendConditions {
  /**
   * Milliseconds that the statement waits for other transactions that have used the same dedupe ids; then it fails with a lock timeout.
   * @default until they end
   */
  readonly wait?: number;
  /** Nothing is stored, and no rows are returned, unless the transaction has this token: see `session-append.ts`. @default none */
  readonly token?: string;
  /** Positions of sources that are stored with the messages, if all of these have a stream. @default none */
  readonly positions?: readonly unknown[] | undefined;
}

interface Variant {
  readonly dedupe: boolean;
  /** Some messages are not for the first partition. */
  readonly partitioned: boolean;
  readonly wait: boolean;
  readonly token: boolean;
  readonly positions: boolean;
}

const KEY_BYTES = 32;

/** Parameters of the statement in their order. */
class Parameters {
  private count = 0;

  next(type: string): string {
    this.count += 1;
    return `$${this.count}::${type}`;
  }
}

/** Less than the time after which the server ends the statement: then it is known that a lock was not free. */
function lockTimeout(ms: string): string {
  return `(select set_config('lock_timeout', greatest(1, least(${ms},
    nullif(extract(epoch from current_setting('statement_timeout')::interval) * 500, 0)))::int::text, true)) is not null`;
}

/**
 * The streams are named once, and the messages name them by their place. All bytes are in one parameter, which the driver sends as they
 * are. A message whose stream is not there is not stored, and gets no id; nor is a position then. One for a partition that its stream does
 * not have goes to another (`placeIn`).
 *
 * `pg_current_xact_id`: the transaction gets its number before it gets numbers of messages, on which `Floors` depends.
 *
 * The statement returns the id of each message: an empty text for a duplicate, null if its stream is not there. Dedupe ids are taken in
 * the order of their keys, so that two statements don't wait for each other.
 */
function appending({ dedupe, partitioned, wait, token, positions }: Variant): Statement {
  const parameters = new Parameters();
  const bytes = parameters.next('bytea');
  const streams = parameters.next('text[]');
  const types = ['int[]', 'int[]', 'float8[]', 'int[]', 'int[]', 'int[]'];
  const columns = types.map((type) => parameters.next(type));
  const keys = dedupe ? parameters.next('bytea') : '';
  if (dedupe) columns.push(parameters.next('int[]'));
  const conditions = ['pg_current_xact_id() is not null'];
  if (wait) conditions.push(lockTimeout(parameters.next('float8')));
  if (token) conditions.push(`current_setting('nestjs_minibatch.session', true) = ${parameters.next('text')}`);
  const ofStream = (column: string) => `(select array_agg(${column} order by u.n)
          from unnest(${streams}) with ordinality u(name, n) left join minibatch.stream s on s.name = u.name)[m.stream]`;
  const numbered = `numbered as materialized (
    select m.*, nextval('minibatch.message_id') as id from (
      select m.n, ${ofStream('s.id')} as stream,
        ${partitioned ? `m.partition % ${ofStream('coalesce(s.partitions, 1)')} as partition` : 'm.partition'}, m.created, m.flags, substring(${bytes} from m.start for m.length) as body
        ${dedupe ? `, case when m.dedupe > 0 then substring(${keys} from m.dedupe for ${KEY_BYTES}) end as dedupe` : ''}
      from unnest(${columns.join(', ')}) with ordinality
        m(stream, partition, created, flags, start, length, ${dedupe ? 'dedupe, ' : ''}n)
      where ${conditions.join(' and ')} order by m.n) m)`;
  const storing = dedupe
    ? `taken as (insert into minibatch.dedupe (stream, key, message)
        select stream, dedupe, id from numbered where dedupe is not null and stream is not null order by stream, dedupe, n
        on conflict do nothing returning message),
      new as materialized (select * from numbered where stream is not null and (dedupe is null or id in (select message from taken))),
      stored as (insert into minibatch.message (id, created, stream, partition, flags, dedupe, body)
        select id, created, stream, partition, flags, dedupe, body from new)`
    : `stored as (insert into minibatch.message (id, created, stream, partition, flags, body)
        select id, created, stream, partition, flags, body from numbered where stream is not null)`;
  const position = ['text[]', 'bytea[]', 'bytea[]'];
  const positionValues = positions ? position.map((type) => parameters.next(type)).join(', ') : '';
  const isStored = dedupe ? 'm.id in (select id from new)' : 'true';
  return statement(`with ${numbered}, ${storing}
    ${positions ? `, positions as (${positionsSql(positionValues, 'not exists (select 1 from numbered where stream is null)')})` : ''}
    select case when m.stream is null then null when ${isStored} then ${hexSql('m.id')} else '' end as id from numbered m order by m.n`);
}

const statements = new Map<string, Statement>();

function appendStatement(variant: Variant): Statement {
  const name = JSON.stringify(Object.values(variant));
  let made = statements.get(name);
  if (made === undefined) statements.set(name, (made = appending(variant)));
  return made;
}

/** @param drafts one or more */
export function appendOf(drafts: readonly Draft[], { wait, token, positions }: AppendConditions): Sent {
  const streams = new Map<string, number>();
  const names: number[] = [];
  const partitions: number[] = [];
  const created: number[] = [];
  const flags: number[] = [];
  const starts: number[] = [];
  const lengths: number[] = [];
  let end = 1;
  for (const { message, encoded } of drafts) {
    let name = streams.get(message.stream);
    if (name === undefined) streams.set(message.stream, (name = streams.size + 1));
    names.push(name);
    partitions.push(message.partition ?? 0);
    created.push(message.created.getTime());
    flags.push(encoded[0] ?? 0);
    starts.push(end);
    lengths.push(encoded.length);
    end += encoded.length;
  }
  const [only] = drafts;
  const bodies = only && drafts.length === 1 ? only.encoded : Buffer.concat(drafts.map(({ encoded }) => encoded));
  const dedupe = drafts.some(isDeduped);
  // Only dedupe ids make a statement wait for others.
  const waits = dedupe && wait !== undefined;
  return {
    statement: appendStatement({
      dedupe,
      partitioned: drafts.some(({ message: { partition = 0 } }) => partition > 0),
      wait: waits,
      token: token !== undefined,
      positions: positions !== undefined,
    }),
    values: [
      bodies,
      [...streams.keys()],
      ...[names, partitions, created, flags, starts, lengths].map(numberArray),
      ...(dedupe ? dedupeValues(drafts) : []),
      ...(waits ? [wait] : []),
      ...(token === undefined ? [] : [token]),
      ...(positions ?? []),
    ],
  };
}

function dedupeValues(drafts: readonly Draft[]): readonly [Buffer, string] {
  const keys: Buffer[] = [];
  const places = drafts.map(({ message: { dedupeId } }) => {
    if (dedupeId === undefined) return 0;
    keys.push(createHash('sha256').update(dedupeId).digest());
    return (keys.length - 1) * KEY_BYTES + 1;
  });
  return [Buffer.concat(keys), numberArray(places)];
}
