import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { Database } from './database.js';
import { CREATE_VERSION, migrationsFrom, SCHEMA_VERSION } from './schema.js';
import { statement } from './sql.js';

const FIND = statement(`select to_regclass('minibatch.schema_version') is not null as exists`);
const VERSION = statement('select max(version) as version from minibatch.schema_version');
/** By the name of the schema: each has its own tables. Held until the transaction ends. */
const LOCK = statement("select pg_advisory_xact_lock(hashtext('nestjs-minibatch'), hashtext($1))");
const SAVE = statement('insert into minibatch.schema_version values ($1)');

/**
 * Makes sure that the tables have the version of this package, and makes or changes them if that is allowed. Several processes may do
 * this at the same time.
 *
 * @throws MinibatchError `SchemaTooNew`, `SchemaMissing`
 */
export async function prepareTables(database: Database, migrate: boolean): Promise<void> {
  const { schema } = database.options;
  const found = await versionOf(database);
  if (found > SCHEMA_VERSION) throw tooNew(schema, found);
  if (found === SCHEMA_VERSION) return;
  if (!migrate) throw missing(schema, found);
  await database.transaction('create the tables', async (queries) => {
    await queries.query(LOCK, [schema]);
    await queries.script(CREATE_VERSION);
    const [row] = await queries.query<{ version: number | null }>(VERSION, []);
    const version = row?.version ?? 0;
    if (version >= SCHEMA_VERSION) return;
    for (const migration of migrationsFrom(version)) await queries.script(migration);
    await queries.query(SAVE, [SCHEMA_VERSION]);
  });
  const made = await versionOf(database);
  if (made > SCHEMA_VERSION) throw tooNew(schema, made);
}

async function versionOf(database: Database): Promise<number> {
  const [table] = await database.query<{ exists: boolean }>('look for the tables', FIND, []);
  if (!table?.exists) return 0;
  const [row] = await database.query<{ version: number | null }>('read the version of the tables', VERSION, []);
  return row?.version ?? 0;
}

function tooNew(schema: string, found: number): MinibatchError {
  return new MinibatchError(
    ErrorCode.SchemaTooNew,
    `the tables in the PostgreSQL schema '${schema}' have version ${found}, written by a newer nestjs-minibatch; this one works with ` +
      `version ${SCHEMA_VERSION}. Update the package, or give another schema`,
    { details: { schema, found, supported: SCHEMA_VERSION } },
  );
}

function missing(schema: string, found: number): MinibatchError {
  const what =
    found === 0 ? 'has no tables of the store' : `has tables of version ${found}, older than ${SCHEMA_VERSION}`;
  return new MinibatchError(
    ErrorCode.SchemaMissing,
    `the PostgreSQL schema '${schema}' ${what}, and \`migrate\` is false. Run the SQL of postgresSchema({ schema, from: ${found} }) as a ` +
      'user who may create tables, or let the store do it with `migrate: true`',
    { details: { schema, found, needed: SCHEMA_VERSION } },
  );
}
