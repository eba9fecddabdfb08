import { randomUUID } from 'node:crypto';
import { batchesOf } from '../../common/batches.js';
import { AppendError, ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { appendOf } from './append-statement.js';
import { WRITE_CHECKPOINTS } from './checkpoints.js';
import type { Database } from './database.js';
import { type Draft, isUnsettled, settleDrafts, STATEMENT_LIMITS, streamsOf } from './drafts.js';
import { ID_PATTERN } from './ids.js';
import type { KnownStreams } from './known-streams.js';
import { type Notifications, NOTIFYING } from './notifications.js';
import { type PostgresSession, rowsOf } from './session.js';
import { SERVER_IDENTITY, type Statement, statement } from './sql.js';
import { advice, appendCodeOf, isConflict, isRefusal, reasonOf, serverErrorOf } from './store-errors.js';

/**
 * Marks the transaction with a token, which is gone when it ends, tells other processes of the messages, and returns which server and
 * database this is. Names no table: another database may have none.
 */
const BEGIN = statement(`select ${SERVER_IDENTITY} as server, set_config('nestjs_minibatch.session', $3, true) as token,
  (select count(*) from (${NOTIFYING}) told) as told`);
const IS_MARKED = statement(`select '' as id where current_setting('nestjs_minibatch.session', true) = $1`);

/** Appends in transactions of the application: all or nothing. What goes wrong is thrown, and the application rolls back. */
export class SessionAppends {
  constructor(
    private readonly database: Database,
    private readonly notifications: Notifications,
    private readonly streams: KnownStreams,
  ) {}

  /** @throws AppendError, and the error of the driver where the application can run its transaction again */
  async append(
    session: PostgresSession,
    drafts: readonly Draft[],
    positions: readonly unknown[] | undefined,
    streams: readonly string[],
  ): Promise<void> {
    let isSent = false;
    try {
      // Not in the transaction: until it ends, nobody else could make them.
      await this.streams.ensure(streams);
      isSent = true;
      const token = await this.mark(session, drafts);
      for (const { items } of batchesOf(drafts, STATEMENT_LIMITS, ({ encoded }) => encoded.length)) {
        await this.store(session, items, token);
        const left = items.filter(isUnsettled);
        if (left.length === 0) continue;
        // Their streams were dropped in the meantime.
        this.streams.forget(streamsOf(left));
        await this.streams.ensure(streamsOf(left));
        await this.store(session, left, token);
      }
      if (positions === undefined || drafts.some(isUnsettled)) return;
      if (drafts.length === 0 && (await this.run(session, IS_MARKED, [token])).length === 0) throw noTransaction();
      await this.run(session, WRITE_CHECKPOINTS, positions);
    } catch (error) {
      // By the error of the driver the application knows that the transaction can be run again.
      const cause = serverErrorOf(error instanceof MinibatchError ? (error.cause ?? error) : error);
      if (isConflict(cause) || error instanceof AppendError) throw error;
      throw new AppendError(
        appendCodeOf(cause),
        `The messages could not be appended in the session: ${reasonOf(cause)}. If they were part of a transaction, roll it back. ${advice(cause)}`,
        !isSent || isRefusal(cause) ? 'no' : 'unknown',
        { cause },
      );
    }
  }

  private async mark(session: PostgresSession, drafts: readonly Draft[]): Promise<string> {
    const token = randomUUID();
    const payloads = streamsOf(drafts).flatMap((stream) => this.notifications.payloadOf(stream) ?? []);
    const [row] = await this.run(session, BEGIN, [this.notifications.channel, payloads, token]);
    if (row?.['token'] !== token) throw unreadable();
    if (!(await this.database.isServer(String(row['server'])))) throw otherDatabase();
    return token;
  }

  private async store(session: PostgresSession, drafts: readonly Draft[], token: string): Promise<void> {
    const { statement: sent, values } = appendOf(drafts, { token });
    const rows = await this.run(session, sent, values);
    if (rows.length < drafts.length) throw noTransaction();
    settleDrafts(
      drafts,
      rows.map(({ id }) => checkedId(id)),
    );
  }

  private async run(
    session: PostgresSession,
    sent: Statement,
    values: readonly unknown[],
  ): Promise<readonly Record<string, unknown>[]> {
    return rowsOf(await session.query(this.database.textOf(sent), [...values]));
  }
}

/** The session reads values as the application has told its driver to. */
function checkedId(id: unknown): string | null {
  if (id === null || id === '' || (typeof id === 'string' && ID_PATTERN.test(id))) return id;
  throw unreadable();
}

function unreadable(): TypeError {
  return new TypeError(
    'the session does not return texts as the server sends them: give one without parsers of your own',
  );
}

function noTransaction(): AppendError {
  return new AppendError(
    ErrorCode.InvalidOptions,
    'append: `session` is not in a transaction, so nothing was appended: begin one on a client of its own and pass that client. A pool is ' +
      'no session, because it runs each statement on any of its connections',
    'no',
    { details: { option: 'session' } },
  );
}

function otherDatabase(): AppendError {
  return new AppendError(
    ErrorCode.InvalidOptions,
    'append: `session` is connected to another server or database than the store, so nothing was appended: open the transaction on the ' +
      'database that the store uses',
    'no',
    { details: { option: 'session' } },
  );
}
