import { AppendError, ErrorCode } from '../../errors/minibatch.error.js';

/**
 * A transaction of the application, in which `append` runs its statement. A client of `pg` is one, and so is a `QueryRunner` of TypeORM;
 * see `knexSession`, `prismaSession` and `drizzleSession` for others.
 */
export interface PostgresSession {
  /**
   * Runs a statement with parameters `$1`, `$2` and so on. Resolves with its rows, or with an object that has them as `rows`; each row
   * is an object.
   */
  query(text: string, values: unknown[]): Promise<unknown>;
}

/** What `knexSession` needs of a transaction. */
export interface KnexTransaction {
  raw(sql: string, bindings: readonly unknown[]): PromiseLike<unknown>;
}

/**
 * A transaction of Knex as `session` of `append`.
 *
 * @example
 * ```ts
 * await knex.transaction(async (trx) => {
 *   await trx('order').insert(order);
 *   await orders.append(order, { session: knexSession(trx) });
 * });
 * ```
 */
export function knexSession(transaction: KnexTransaction): PostgresSession {
  return {
    async query(text, values) {
      const bindings: unknown[] = [];
      // Knex numbers them by their order in the text.
      const sql = text.replaceAll(/\$(\d+)/g, (_, number: string) => {
        bindings.push(values[Number(number) - 1]);
        return '?';
      });
      return transaction.raw(sql, bindings);
    },
  };
}

/** What `prismaSession` needs of the client of an interactive transaction. */
export interface PrismaTransaction {
  $queryRawUnsafe(text: string, ...values: unknown[]): PromiseLike<unknown>;
}

/**
 * An interactive transaction of Prisma as `session` of `append`.
 *
 * @example
 * ```ts
 * await prisma.$transaction(async (tx) => {
 *   await tx.order.create({ data: order });
 *   await orders.append(order, { session: prismaSession(tx) });
 * });
 * ```
 */
export function prismaSession(transaction: PrismaTransaction): PostgresSession {
  return { query: async (text, values) => transaction.$queryRawUnsafe(text, ...values) };
}

/** What `drizzleSession` needs of a transaction. */
export interface DrizzleTransaction {
  execute(query: never): PromiseLike<unknown>;
}

/** What `drizzleSession` needs of `sql`, as drizzle-orm exports it. */
export interface DrizzleSql {
  raw(text: string): unknown;
  param(value: unknown): unknown;
  join(chunks: never): unknown;
}

/**
 * A transaction of Drizzle on `pg` as `session` of `append`.
 *
 * @param sql as drizzle-orm exports it
 * @example
 * ```ts
 * await db.transaction(async (tx) => {
 *   await tx.insert(orderTable).values(order);
 *   await orders.append(order, { session: drizzleSession(tx, sql) });
 * });
 * ```
 */
export function drizzleSession(transaction: DrizzleTransaction, sql: DrizzleSql): PostgresSession {
  return {
    async query(text, values) {
      // Every second part is the number of a parameter; Drizzle numbers them by their order in the text.
      const chunks = text.split(/\$(\d+)/).map((part, index) => {
        return index % 2 === 0 ? sql.raw(part) : sql.param(values[Number(part) - 1]);
      });
      return transaction.execute(sql.join(chunks as never) as never);
    },
  };
}

/** @throws AppendError `InvalidOptions` */
export function asSession(given: unknown): PostgresSession {
  if (typeof given === 'object' && given !== null && 'query' in given && typeof given.query === 'function')
    return given as PostgresSession;
  throw new AppendError(
    ErrorCode.InvalidOptions,
    'append: `session` must have a method `query(text, values)`, as a client of pg and a QueryRunner of TypeORM have; for Knex, ' +
      'Prisma and Drizzle there are knexSession, prismaSession and drizzleSession',
    'no',
  );
}

/** The rows of a result, in whichever form the session gives them. */
export function rowsOf(result: unknown): readonly Record<string, unknown>[] {
  if (Array.isArray(result)) return result as Record<string, unknown>[];
  if (typeof result === 'object' && result !== null && 'rows' in result && Array.isArray(result.rows))
    return result.rows as Record<string, unknown>[];
  throw new TypeError("the session's query() has returned neither rows nor an object with rows");
}
