/** The name of the schema in every statement of this folder; `Database` puts the chosen one in its place. */
export const SCHEMA = 'minibatch';

/**
 * The statements that lead from each version of the tables to the next. A released one never changes.
 *
 * - Times are milliseconds since 1970, as in `Date`: the range of `timestamptz` is smaller than that of `Date`.
 * - Ids of messages come from one sequence, so that a stream of a name that was in use before gives none twice. They stay below 2^53.
 * - The groups of a stream are in its row: whoever locks that row knows them, whatever the snapshot of the statement says.
 * - Vacuum starts after a number of dead rows, not after a share of the table: the tables of a queue are nearly empty most of the time.
 */
const MIGRATIONS: readonly string[] = [
  `
create sequence minibatch.message_id maxvalue 9007199254740991;

create table minibatch.stream (
  id int generated always as identity primary key,
  name text collate "C" not null unique,
  status text not null,
  created float8 not null,
  closed float8,
  paused boolean not null default false,
  flushes int not null default 0,
  clearings int not null default 0,
  cleared_to bigint not null default 0,
  asked int not null default 0,
  requests jsonb not null default '[]',
  groups text[] not null default '{}',
  partitions int,
  growths jsonb not null default '[]',
  removed_fence bigint not null default 0,
  has_former_marks boolean not null default false
) with (fillfactor = 70);

create table minibatch.consumer (
  stream int not null,
  grp text collate "C" not null,
  partition int not null,
  owner jsonb,
  heir jsonb,
  fence bigint not null,
  first_fence bigint not null,
  counter bigint not null default 0,
  hold_time float8,
  finished bigint[] not null default '{}',
  progress bytea,
  primary key (stream, grp, partition)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

create table minibatch.message (
  id bigint not null,
  created float8 not null,
  original bigint,
  stream int not null,
  partition int not null,
  flags smallint not null,
  dedupe bytea,
  body bytea not null,
  primary key (stream, partition, id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);
alter table minibatch.message alter column body set storage external;
create index message_original on minibatch.message (stream, original) where original is not null;

create table minibatch.done (
  id bigint not null,
  stream int not null,
  partition int not null,
  grp text collate "C" not null,
  former boolean not null default false,
  kept boolean not null,
  primary key (stream, partition, id, grp, former)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

create table minibatch.claim (
  seq bigint not null,
  stream int not null,
  partition int not null,
  grp text collate "C" not null,
  record bytea not null,
  ids bytea not null,
  primary key (stream, grp, partition, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

create table minibatch.dedupe (
  message bigint not null,
  settled float8,
  stream int not null,
  key bytea not null,
  primary key (stream, key)
);
create index dedupe_settled on minibatch.dedupe (stream, settled) where settled is not null;

create table minibatch.kept_message (
  id bigint not null,
  settled float8 not null,
  created float8 not null,
  stream int not null,
  partition int not null,
  body bytea not null,
  primary key (stream, id)
);
alter table minibatch.kept_message alter column body set storage external;
create index kept_message_settled on minibatch.kept_message (stream, settled);

create table minibatch.kept_window (
  number bigint generated always as identity primary key,
  settled float8 not null,
  stream int not null,
  partition int not null,
  grp text collate "C",
  record bytea not null,
  ids bytea not null
);
create index kept_window_group on minibatch.kept_window (stream, grp, partition, number);
create index kept_window_settled on minibatch.kept_window (stream, settled);

create table minibatch.dead_letter (
  id bigint generated always as identity,
  message bigint not null,
  original bigint,
  died float8 not null,
  created float8 not null,
  stream int not null,
  partition int not null,
  grp text collate "C" not null,
  note bytea not null,
  body bytea not null,
  primary key (stream, id)
);
alter table minibatch.dead_letter alter column body set storage external;
create index dead_letter_message on minibatch.dead_letter (stream, grp, message);

create table minibatch.checkpoint (
  stream int not null,
  source bytea not null,
  position bytea not null,
  primary key (stream, source)
);
`,
  // Rows of state belong to the number of a consumer, which no other consumer of its name gets: versions that know of no rows may remove and
  // rename groups.
  `
alter table minibatch.consumer add column number bigint generated always as identity;

create table minibatch.state (
  due float8,
  consumer bigint not null,
  stream int not null,
  slot text collate "C" not null,
  value bytea not null,
  primary key (stream, consumer, slot)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 10000);
alter table minibatch.state alter column value set storage external;
create index state_due on minibatch.state (stream, consumer, due, slot) where due is not null;
`,
  // Beside the consumer's row, which every commit writes as a whole.
  `
create table minibatch.note (
  stream int not null,
  consumer bigint not null,
  note text not null,
  primary key (stream, consumer)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
`,
];

/** The version of the tables that this version of the package works with. */
export const SCHEMA_VERSION = MIGRATIONS.length;

/** Where the version is. Names nothing but the schema, so that every version can read what a newer one has written. */
export const CREATE_VERSION = `
create schema if not exists minibatch;
create table if not exists minibatch.schema_version (version int not null);
`;

/** The statements from the version that the database has to the present one. */
export function migrationsFrom(version: number): readonly string[] {
  return MIGRATIONS.slice(version);
}

/** Puts the chosen schema into a statement. */
export function inSchema(text: string, schema: string): string {
  const name = quoted(schema);
  return text.replaceAll(/'minibatch\.(\w+)'|\bminibatch(?=[.;])/g, (_, table?: string) =>
    table === undefined ? name : literal(`${name}.${table}`),
  );
}

/** A text as it stands in a statement, whatever `standard_conforming_strings` is. */
function literal(text: string): string {
  return `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}

/** An identifier as it stands in a statement. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export interface PostgresSchemaOptions {
  /** The schema that gets the tables. @default 'minibatch' */
  readonly schema?: string;
  /** The number of the version that the tables have; 0 if there are none. @default 0 */
  readonly from?: number;
}

/**
 * The SQL that makes the tables, to be run by someone who may create them where the application may not (`migrate: false`).
 *
 * @example
 * ```ts
 * console.log(postgresSchema({ schema: 'streams' }));
 * ```
 */
export function postgresSchema({ schema = SCHEMA, from = 0 }: PostgresSchemaOptions = {}): string {
  const version = `\ninsert into minibatch.schema_version values (${SCHEMA_VERSION});\n`;
  return inSchema(['begin;', CREATE_VERSION, ...migrationsFrom(from), version, 'commit;\n'].join(''), schema);
}
