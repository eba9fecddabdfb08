import type { ConsumerKey, Lease } from '../stream-store.interface.js';

/** A statement of the store; `minibatch.` stands for the chosen schema. An object, because its prepared form is remembered by it. */
export interface Statement {
  readonly text: string;
  /**
   * The server plans it for each call. A plan that it has made while a table was empty, and keeps, reads all of the table where only an
   * index leads to the rows.
   */
  readonly replanned?: boolean;
}

export function statement(text: string, options: Omit<Statement, 'text'> = {}): Statement {
  return { text, ...options };
}

/** The number of the stream `$1`. As a subquery it is evaluated once, and leaves the order of an index to be used. */
export const STREAM = '(select id from minibatch.stream where name = $1)';

/** `columns` of the rows of `inner`, of which one is `body`, in order until their bytes reach a limit: one row at least, however large. */
export function withinBytes(columns: string, inner: string, order: string, limit: string): string {
  return `select ${columns} from (
    select i.*, sum(octet_length(body)) over (order by ${order} rows unbounded preceding) - octet_length(body) as before from (${inner}) i) o
  where before < ${limit} order by ${order}`;
}

/** The condition of a consumer whose lease is held, with the values of `heldBy`. */
export const IS_HELD = `stream = ${STREAM} and grp = $2 and partition = $3 and fence = $4 and owner->>'id' = $5`;

/** One row if the lease is held. `for share`: nobody acquires it before this statement has committed, and it writes in any case. */
export const HELD_FOR_SHARE = `select 1 from minibatch.consumer where ${IS_HELD} for share`;

/**
 * A statement that writes if the lease is held, and then has one row. Both forms are carried out when they are answered, also for what
 * is sent next on the connection. `synced` is on disk then, and all that the server wrote before it. It always writes: what is repeated
 * and finds nothing to do waits for the disk, too. `unsynced` may be lost until a later statement is synced.
 */
export interface FencedStatement {
  readonly synced: Statement;
  readonly unsynced: Statement;
}

/** @param ctes common table expressions that may use `held`, which has a row if the lease is held */
export function fenced(ctes: string, options: Omit<Statement, 'text'> = {}): FencedStatement {
  // `local`: until the end of this statement's transaction.
  const unsynced = `select set_config('synchronous_commit', 'off', true) as held from held`;
  return {
    synced: statement(`with held as materialized (${HELD_FOR_SHARE}), ${ctes} select 1 as held from held`, options),
    unsynced: statement(`with held as materialized (${HELD_FOR_SHARE}), ${ctes} ${unsynced}`, options),
  };
}

/** The first five parameters of a statement that is fenced. */
export function heldBy({ key, fence, owner }: Lease): [string, string, number, number, string] {
  return [key.stream, key.group, key.partition, fence, owner.id];
}

/** The first three parameters of a statement about one consumer. */
export function consumerOf({ stream, group, partition }: ConsumerKey): [string, string, number] {
  return [stream, group, partition];
}

/**
 * The row of `minibatch.done` by which a group has marked a message, or null.
 *
 * A scalar subquery, because the server cannot turn it into a join. It turns `exists` into one, and if it has analyzed the table while
 * the queue was empty, it expects a single row and compares every message with every mark of the group.
 */
export function markOf({ partition, id, group }: { partition: string; id: string; group: string }): string {
  return `(select 1 from minibatch.done d
    where d.stream = ${STREAM} and d.partition = ${partition} and d.id = ${id} and d.grp = ${group} and not d.former limit 1)`;
}

/**
 * The group `$2` has not committed the message `m`, of those after the number `after`. Where no group has marked any, as is always so in a
 * stream with one group, the server looks once and not for each message.
 */
export function isOpen(after: string): string {
  const marked = `(select 1 from minibatch.done d where d.stream = ${STREAM} and d.partition = $3 and d.id > ${after} limit 1)`;
  return `(${marked} is null or ${markOf({ partition: '$3', id: 'm.id', group: '$2' })} is null)`;
}

/** Differs between any two servers, after a restart of one, and between databases. */
export const SERVER_IDENTITY = `(select oid from pg_database where datname = current_database())::text || '.' ||
  (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text`;

const parsers = new Map<number, (text: string) => unknown>([
  [16, (text) => text === 't'],
  [17, bytesOf],
  [20, Number],
  [21, Number],
  [23, Number],
  [114, (text) => JSON.parse(text) as unknown],
  [701, Number],
  [3802, (text) => JSON.parse(text) as unknown],
]);
/** Both formats of `bytea_output`, which a database, a role or a connection may set. */
function bytesOf(text: string): Buffer {
  if (text.startsWith('\\x')) return Buffer.from(text.slice(2), 'hex');
  return Buffer.from(
    text.replaceAll(/\\(?:\\|([0-7]{3}))/g, (_, octal?: string) =>
      octal === undefined ? '\\' : String.fromCharCode(Number.parseInt(octal, 8)),
    ),
    'latin1',
  );
}

const asText = (text: string): unknown => text;

/** How values of the server are read: our own way, because an application may have changed the driver's for all. */
export const TYPES = {
  getTypeParser: (oid: number): ((text: string) => unknown) => parsers.get(oid) ?? asText,
};
