import { createHash } from 'node:crypto';
import { backoff } from '../../common/backoff.js';
import { BACKGROUND_CLOCK, delay, SYSTEM_CLOCK } from '../../common/clock.js';
import { asError } from '../../errors/error-text.js';
import { MinibatchError } from '../../errors/minibatch.error.js';
import { busyProcesses } from './busy-processes.js';
import type { PostgresClient, PostgresPool } from './pool.js';
import { inSchema, SCHEMA } from './schema.js';
import { Silence } from './silence.js';
import { SERVER_IDENTITY, type Statement, statement, TYPES } from './sql.js';
import { asStoreError, isConflict, isMissing, isOutOfReach } from './store-errors.js';

/** Pauses between attempts to reach a server that is away. */
const RECONNECT = { base: 50, max: 1_000, jitter: 0.3 };
/** Pauses after a deadlock, or a transaction that could not be serialized. */
const CONFLICT = { base: 5, max: 200, jitter: 1 };
const MOST_CONFLICTS = 10;
/** A call waits at least this long for a connection of the pool; milliseconds. */
const LEAST_WAIT = 1_000;

/**
 * Whatever the defaults of the role are: what a lock protects has to be read after it; and a process that stops in the middle, without its
 * connection being closed, must not keep others from the locks, such as from the lease that it holds. It repeats the transaction.
 */
const BEGIN = `begin isolation level read committed; set local idle_in_transaction_session_timeout = '5s'`;

const SERVER = statement(`select ${SERVER_IDENTITY} as server`);

export interface DatabaseOptions {
  readonly schema: string;
  /** Whether statements are prepared on the connection. */
  readonly prepared: boolean;
  /** How long an attempt to reach the server may take; milliseconds. */
  readonly patience: number;
}

/** A connection that was taken from the pool. */
export interface Connection {
  readonly client: PostgresClient;
  /** True: it is known to be broken, and is not used again. */
  readonly release: (isLost?: boolean) => void;
}

/** One transaction, or a `Session`. */
export interface Queries {
  query<R extends object>(statement: Statement, values: readonly unknown[]): Promise<R[]>;
  /** Several statements without parameters. */
  script(text: string): Promise<void>;
}

/** A connection on which each statement is a transaction, unless it is said otherwise. */
export interface Session extends Queries {
  /** Runs several statements as one transaction. */
  transaction<R>(work: (queries: Queries) => Promise<R>): Promise<R>;
}

/** The connection was lost after the statement was sent: nobody knows whether it was carried out. */
export class AnswerLost extends Error {
  constructor(override readonly cause: unknown) {
    super('the connection was lost before the server answered');
  }
}

/** Runs the statements of the store: on connections of a pool, again where that is safe, and with coded errors. */
export class Database {
  private readonly prepared = new Map<Statement, { readonly name: string; readonly text: string }>();
  private readonly closing = new AbortController();
  /** Grows whenever a connection breaks: what was remembered of the server may be wrong then. */
  breaks = 0;
  private server: string | undefined;
  private restoring: Promise<void> | undefined;
  private readonly silence: Silence;

  constructor(
    readonly pool: PostgresPool,
    readonly options: DatabaseOptions,
    /** Makes the tables again that somebody has dropped, on connections of its own. */
    private readonly restore?: () => Promise<void>,
  ) {
    pool.on('error', this.broken);
    pool.on('connect', this.watch);
    const patience = Math.max(options.patience, LEAST_WAIT);
    this.silence = new Silence({ patience, busy: (processes) => busyProcesses(pool, patience, processes) });
  }

  /**
   * From the moment on that the pool opens a connection: the server may end it with the very bytes that accept it, before the pool has
   * handed it out.
   */
  private readonly watch = (client?: unknown): void => {
    if (isEmitter(client)) client.on('error', this.broken);
  };

  private readonly broken = (): void => {
    this.breaks += 1;
  };

  /** What is being retried fails from now on. */
  close(): void {
    this.closing.abort();
    this.silence.close();
    this.pool.off('error', this.broken);
    this.pool.off('connect', this.watch);
  }

  /** The most connections of the pool, if it says so. */
  get most(): number | undefined {
    const { max } = this.pool.options ?? {};
    return typeof max === 'number' ? max : undefined;
  }

  /** Whether a connection with this `SERVER_IDENTITY` is to the server and the database of the store. */
  async isServer(identity: string): Promise<boolean> {
    if (identity === this.server) return true;
    // It is another one after a restart.
    const [row] = await this.query<{ server: string }>('ask which server it is', SERVER, []);
    this.server = row?.server;
    return identity === this.server;
  }

  /** The text for a connection that is not ours. */
  textOf({ text }: Statement): string {
    return inSchema(text, this.options.schema);
  }

  /** Runs a statement that may be repeated. */
  query<R extends object>(what: string, statement: Statement, values: readonly unknown[]): Promise<R[]> {
    return this.coded(what, () => this.run(true, (client) => this.send<R>(client, statement, values)));
  }

  /** The same, with the columns of each row in order. */
  rows<R extends readonly unknown[]>(what: string, statement: Statement, values: readonly unknown[]): Promise<R[]> {
    return this.coded(what, () => this.run(true, (client) => this.sendForRows<R>(client, statement, values)));
  }

  /**
   * Runs a statement that must not be repeated when its answer is lost.
   *
   * @throws AnswerLost, or the error of the driver
   */
  once<R extends readonly unknown[]>(statement: Statement, values: readonly unknown[]): Promise<R[]> {
    return this.run(false, (client) => this.sendForRows<R>(client, statement, values));
  }

  /** Runs statements on one connection, each a transaction of its own. All of them may be repeated. */
  session<R>(what: string, work: (session: Session) => Promise<R>): Promise<R> {
    return this.coded(what, () =>
      this.run(true, (client) =>
        work({ ...this.queriesOf(client), transaction: (inner) => this.inTransaction(client, inner) }),
      ),
    );
  }

  /** Runs a transaction that may be repeated. */
  transaction<R>(what: string, work: (queries: Queries) => Promise<R>): Promise<R> {
    return this.coded(what, () => this.run(true, (client) => this.inTransaction(client, work)));
  }

  private async inTransaction<R>(client: PostgresClient, work: (queries: Queries) => Promise<R>): Promise<R> {
    await this.ask(client, BEGIN);
    try {
      const result = await work(this.queriesOf(client));
      await this.ask(client, 'commit');
      return result;
    } catch (error) {
      // On a connection that is lost this fails, too; then the server has rolled back.
      await this.ask(client, 'rollback').catch(() => undefined);
      throw error;
    }
  }

  /**
   * Resolves with a connection that the caller releases. The pool listens for errors of idle connections only: without a listener of ours,
   * a server that ends the connection between two statements would end the process.
   */
  async connect(): Promise<Connection> {
    const client = await this.take();
    let isBroken = false;
    const fail = () => {
      isBroken = true;
      this.broken();
    };
    client.on('error', fail);
    // `pg.defaults.binary`: the driver would read the bytes of values as UTF-8.
    const { binary } = client;
    client.binary = false;
    return {
      client,
      release: (isLost = false) => {
        this.silence.over(client);
        client.binary = binary;
        client.release(isLost || isBroken);
        // One that is thrown away may still fail while it closes.
        if (!isLost && !isBroken) client.off('error', fail);
      },
    };
  }

  /** A pool of the application may wait without end for a connection to be given back. */
  private take(): Promise<PostgresClient> {
    return new Promise((resolve, reject) => {
      let isLate = false;
      const wait = Math.max(this.options.patience, LEAST_WAIT);
      const cancel = BACKGROUND_CLOCK.schedule(wait, () => {
        isLate = true;
        reject(
          new Error(`all ${this.most ?? ''} connections of the pool were in use for ${wait} ms`.replace('  ', ' ')),
        );
      });
      this.pool.connect().then(
        (client) => {
          cancel();
          if (isLate) client.release();
          else resolve(client);
        },
        (error: unknown) => {
          cancel();
          reject(asError(error));
        },
      );
    });
  }

  private async run<R>(repeatable: boolean, work: (client: PostgresClient) => Promise<R>): Promise<R> {
    const began = SYSTEM_CLOCK.monotonic();
    const isLate = () => this.closing.signal.aborted || SYSTEM_CLOCK.monotonic() - began >= this.options.patience;
    let failures = 0;
    let isRestored = false;
    for (let conflicts = 0; ;) {
      const connection = await this.connect().catch(async (error: unknown) => {
        if (!isOutOfReach(error) || isLate()) throw error;
        failures += 1;
        await this.pause(backoff(RECONNECT, failures));
      });
      if (!connection) continue;
      try {
        const result = await work(connection.client);
        connection.release();
        return result;
      } catch (error) {
        const isLost = isOutOfReach(error);
        connection.release(isLost);
        if (isLost) {
          this.breaks += 1;
          if (!repeatable) throw new AnswerLost(error);
          if (isLate()) throw error;
          failures += 1;
          await this.pause(backoff(RECONNECT, failures));
        } else if (isConflict(error) && conflicts < MOST_CONFLICTS) {
          conflicts += 1;
          await this.pause(backoff(CONFLICT, conflicts));
        } else if (isMissing(error) && this.restore && !isRestored) {
          isRestored = true;
          await this.restored(this.restore);
        } else throw error;
      }
    }
  }

  /** Of calls that miss the tables at the same time one makes them. What was remembered of the former ones is forgotten. */
  private restored(restore: () => Promise<void>): Promise<void> {
    return (this.restoring ??= restore().finally(() => {
      this.breaks += 1;
      this.restoring = undefined;
    }));
  }

  private queriesOf(client: PostgresClient): Queries {
    return {
      query: (statement, values) => this.send(client, statement, values),
      script: async (text) => void (await this.ask(client, inSchema(text, this.options.schema))),
    };
  }

  private async send<R extends object>(
    client: PostgresClient,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<R[]> {
    const { rows } = await this.ask(client, { ...this.prepare(statement), values: [...values], types: TYPES });
    return rows as R[];
  }

  private async sendForRows<R extends readonly unknown[]>(
    client: PostgresClient,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<R[]> {
    const { rows } = await this.ask(client, {
      ...this.prepare(statement),
      values: [...values],
      types: TYPES,
      rowMode: 'array',
    });
    return rows as R[];
  }

  private ask(client: PostgresClient, query: string | object): Promise<{ readonly rows: unknown[] }> {
    this.silence.sent(client);
    return client.query(query);
  }

  private prepare(statement: Statement): { readonly name?: string; readonly text: string } {
    let prepared = this.prepared.get(statement);
    if (prepared === undefined) {
      const text = this.textOf(statement);
      // By its content: a pool of the application may serve several stores.
      const name = `${SCHEMA}_${createHash('sha256').update(text).digest('hex').slice(0, 24)}`;
      prepared = { name, text };
      this.prepared.set(statement, prepared);
    }
    return this.options.prepared && !statement.replanned ? prepared : { text: prepared.text };
  }

  private pause(ms: number): Promise<void> {
    return delay(BACKGROUND_CLOCK, ms, this.closing.signal);
  }

  private async coded<R>(what: string, work: () => Promise<R>): Promise<R> {
    try {
      return await work();
    } catch (error) {
      throw error instanceof MinibatchError ? error : asStoreError(what, error);
    }
  }
}

function isEmitter(value: unknown): value is Pick<PostgresClient, 'on'> {
  return typeof value === 'object' && value !== null && 'on' in value && typeof value.on === 'function';
}
