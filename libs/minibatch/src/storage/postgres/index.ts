export { postgresStore, type PostgresStoreAsyncOptions } from './postgres.definition.js';
export { type PostgresStoreOptions, PostgresStreamStore } from './postgres.store.js';
export type { PostgresClient, PostgresPool } from './pool.js';
export { postgresSchema, type PostgresSchemaOptions } from './schema.js';
export {
  drizzleSession,
  type DrizzleSql,
  type DrizzleTransaction,
  knexSession,
  type KnexTransaction,
  type PostgresSession,
  prismaSession,
  type PrismaTransaction,
} from './session.js';
