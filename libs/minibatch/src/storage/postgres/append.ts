import { createHash } from 'node:crypto';
import { batchesOf } from '../../common/batches.js';
import { AppendError, ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { answered } from '../checkpoints.js';
import { type EncodedMessage, encodeMessage } from '../encoded-message.js';
import type { AppendOptions, AppendOutcome, NewMessage } from '../stream-store.interface.js';
import { EncodedCheckpoints, positionsSql, WRITE_CHECKPOINTS } from './checkpoints.js';
import { AnswerLost, type Database } from './database.js';
import { hexSql, numberArray } from './ids.js';
import { type Notifications, NOTIFY } from './notifications.js';
import { asSession, type PostgresSession, rowsOf } from './session.js';
import { type Statement, statement } from './sql.js';
import {
  advice,
  asStoreError,
  isConflict,
  isDenied,
  isLockTimeout,
  isOutOfReach,
  isRefusal,
  reasonOf,
} from './store-errors.js';
import { createStreams } from './streams.js';

/** Limits of one statement. */
const STATEMENT_LIMITS = { items: 5_000, bytes: 16 * 1024 * 1024 };
/** A stream that is dropped and made again and again while messages are appended to it. */
const MOST_TRIES = 4;
/** Streams that are known to exist; more than this come and go. */
const MOST_KNOWN = 10_000;
/** A dedupe id that another's open transaction has used holds the statement up; from then on the others go without it. */
const LOCK_TIMEOUT = "(select set_config('lock_timeout', '250ms', true)) is not null";

/** A message on its way. */
interface Draft {
  readonly index: number;
  readonly message: NewMessage;
  readonly encoded: EncodedMessage;
  outcome?: AppendOutcome;
}

interface Variant {
  /** Whether some have a dedupe id. */
  readonly dedupe: boolean;
  /** Whether it waits for others' transactions that have used the same dedupe ids. */
  readonly patient: boolean;
  /** Whether positions of sources are stored with the messages. */
  readonly positions: boolean;
}

const KEY_BYTES = 32;

/**
 * The streams are named once, and the messages name them by their place. All bytes are in one parameter, which the driver sends as they
 * are. A message whose stream is not there is not stored, and gets no id; nor is a position then.
 *
 * `pg_current_xact_id`: the transaction gets its number before it gets numbers of messages, on which `Floors` depends.
 */
function numbered({ dedupe, patient }: Variant): string {
  return `numbered as materialized (
    select m.*, nextval('minibatch.message_id') as id from (
      select m.n, (select array_agg(s.id order by u.n) from unnest($2::text[]) with ordinality u(name, n)
          left join minibatch.stream s on s.name = u.name)[m.stream] as stream,
        m.partition, m.created, m.flags, substring($1::bytea from m.start for m.length) as body
        ${dedupe ? `, case when m.dedupe > 0 then substring($9::bytea from m.dedupe for ${KEY_BYTES}) end as dedupe` : ''}
      from unnest($3::int[], $4::int[], $5::float8[], $6::int[], $7::int[], $8::int[]${dedupe ? ', $10::int[]' : ''}) with ordinality
        m(stream, partition, created, flags, start, length, ${dedupe ? 'dedupe, ' : ''}n)
      where pg_current_xact_id() is not null ${patient ? '' : `and ${LOCK_TIMEOUT}`} order by m.n) m)`;
}

/**
 * Resolves with the id of each message: with an empty text for a duplicate, with nothing if its stream is not there. Dedupe ids are
 * taken in the order of their keys, so that two statements don't wait for each other.
 */
function appending(variant: Variant): Statement {
  const { dedupe, positions } = variant;
  const first = dedupe ? 11 : 9;
  const positionValues = `$${first}::text[], $${first + 1}::bytea[], $${first + 2}::bytea[]`;
  const storing = dedupe
    ? `taken as (insert into minibatch.dedupe (stream, key, message)
        select stream, dedupe, id from numbered where dedupe is not null and stream is not null order by stream, dedupe, n
        on conflict do nothing returning message),
      new as materialized (select * from numbered where stream is not null and (dedupe is null or id in (select message from taken))),
      stored as (insert into minibatch.message (id, created, stream, partition, flags, dedupe, body)
        select id, created, stream, partition, flags, dedupe, body from new)`
    : `stored as (insert into minibatch.message (id, created, stream, partition, flags, body)
        select id, created, stream, partition, flags, body from numbered where stream is not null)`;
  const isStored = dedupe ? 'exists (select 1 from new where new.id = m.id)' : 'true';
  return statement(`with ${numbered(variant)}, ${storing}
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

type Values = readonly unknown[];
type Send = (statement: Statement, values: Values) => Promise<readonly (string | null)[]>;

/** Appends messages: as few statements as their sizes allow, then the positions of sources. */
export class Appends {
  private readonly known = new Set<string>();

  constructor(
    private readonly database: Database,
    private readonly notifications: Notifications,
  ) {}

  /** @throws AppendError, CheckpointError */
  async append(messages: readonly NewMessage[], options: AppendOptions): Promise<readonly AppendOutcome[]> {
    const outcomes: AppendOutcome[] = [];
    const drafts: Draft[] = [];
    for (const [index, message] of messages.entries()) {
      try {
        drafts.push({ index, message, encoded: encodeMessage(message) });
      } catch (error) {
        if (!(error instanceof AppendError)) throw error;
        outcomes[index] = { status: 'failed', error };
      }
    }
    const checkpoints = new EncodedCheckpoints(options.checkpoints ?? []);
    const streams = [...new Set([...drafts.map(({ message }) => message.stream), ...checkpoints.streams])];
    const positions = checkpoints.values(assumed(outcomes, drafts));
    let isDone = false;
    if (options.session !== undefined) {
      isDone = await this.inSession(asSession(options.session), drafts, positions, streams);
    } else if (await this.ensure(streams, drafts)) isDone = await this.send(drafts, positions, options.late);
    for (const { index, outcome } of drafts) outcomes[index] = outcome ?? unknownOutcome();
    if (!options.checkpoints) return outcomes;
    const values = isDone ? undefined : checkpoints.values(outcomes);
    const failed = [...checkpoints.failed(outcomes)];
    if (values) {
      try {
        await this.database.query('store a position', WRITE_CHECKPOINTS, values);
      } catch (error) {
        failed.push(...checkpoints.due(outcomes).map((checkpoint) => ({ checkpoint, error })));
      }
    }
    return answered(outcomes, failed);
  }

  /** Makes streams that may not be there. Sets the outcomes and resolves with false if the server is out of reach. */
  private async ensure(streams: readonly string[], drafts: readonly Draft[]): Promise<boolean> {
    const missing = streams.filter((name) => !this.known.has(name));
    if (missing.length === 0) return true;
    try {
      await createStreams(this.database, missing);
    } catch (error) {
      const cause = error instanceof MinibatchError && error.cause !== undefined ? error.cause : error;
      fail(drafts, 'no', cause);
      return false;
    }
    if (this.known.size > MOST_KNOWN) this.known.clear();
    for (const name of missing) this.known.add(name);
    return true;
  }

  /** Resolves with true if the positions are stored as well. */
  private async send(
    drafts: readonly Draft[],
    positions: Values | undefined,
    late: AppendOptions['late'],
  ): Promise<boolean> {
    const batches = byWaiting(drafts).flatMap((group) =>
      batchesOf(group, STATEMENT_LIMITS, ({ encoded }) => encoded.length),
    );
    const whole = batches.length === 1 ? positions : undefined;
    let isDone = false;
    for (const { items } of batches) {
      if (late && items.some(isDeduped)) isDone = await this.storeOrPutOff(items, whole, late);
      else isDone = await this.store(items, whole, true);
    }
    const stored = drafts.filter(({ outcome }) => outcome?.status === 'stored');
    if (stored.length > 0) this.notifications.tell(new Set(stored.map(({ message }) => message.stream)));
    return whole !== undefined && isDone;
  }

  /**
   * Sets the outcomes. Resolves with true if all are stored or duplicates, and the positions are stored.
   *
   * @throws the error of the driver if a lock is not free and `patient` is not set
   */
  private async store(drafts: readonly Draft[], positions: Values | undefined, patient: boolean): Promise<boolean> {
    for (let left = drafts, tries = 0; tries < MOST_TRIES; tries += 1) {
      try {
        settle(left, await write((sent, values) => this.sendOnce(sent, values), left, positions, patient));
      } catch (error) {
        if (!patient && isLockTimeout(error)) throw error;
        fail(left, error instanceof AnswerLost ? 'unknown' : 'no', error instanceof AnswerLost ? error.cause : error);
        return false;
      }
      left = await this.withoutStream(left);
      if (left.length === 0) return true;
    }
    return false;
  }

  /** Those that are not stored because their streams were dropped in the meantime; the streams are made again. */
  private async withoutStream(drafts: readonly Draft[]): Promise<readonly Draft[]> {
    const left = drafts.filter(({ outcome }) => outcome === undefined);
    if (left.length === 0) return left;
    const streams = [...new Set(left.map(({ message }) => message.stream))];
    for (const name of streams) this.known.delete(name);
    await this.ensure(streams, left);
    return left.filter(({ outcome }) => outcome === undefined);
  }

  private async sendOnce(sent: Statement, values: readonly unknown[]): Promise<readonly (string | null)[]> {
    const rows = await this.database.once<readonly [string | null]>(sent, values);
    return rows.map(([id]) => id);
  }

  /** Finds the messages that are held up, by halves; they are stored when that is over, and the caller is told then. */
  private async storeOrPutOff(
    drafts: readonly Draft[],
    positions: Values | undefined,
    late: NonNullable<AppendOptions['late']>,
  ): Promise<boolean> {
    try {
      return await this.store(drafts, positions, false);
    } catch {
      const [first] = drafts;
      if (first && drafts.length === 1) {
        late(first.index, this.storeLate(first));
        return false;
      }
      const middle = drafts.length >> 1;
      await this.storeOrPutOff(drafts.slice(0, middle), undefined, late);
      await this.storeOrPutOff(drafts.slice(middle), undefined, late);
      return false;
    }
  }

  private async storeLate({ index, message, encoded }: Draft): Promise<AppendOutcome> {
    const draft: Draft = { index, message, encoded };
    await this.store([draft], undefined, true);
    if (draft.outcome?.status === 'stored') this.notifications.tell([message.stream]);
    return draft.outcome ?? unknownOutcome();
  }

  /** All or nothing: what goes wrong is thrown, and the application rolls its transaction back. */
  private async inSession(
    session: PostgresSession,
    drafts: readonly Draft[],
    positions: Values | undefined,
    streams: readonly string[],
  ): Promise<boolean> {
    // Not in the transaction: until it ends, nobody else could make them.
    if (!(await this.ensure(streams, drafts))) throw sessionFailed(drafts[0]?.outcome);
    const run: Send = async (sent, values) => {
      const rows = rowsOf(await session.query(this.database.textOf(sent), [...values]));
      return rows.map(({ id }) => (typeof id === 'string' ? id : null));
    };
    try {
      for (const { items } of batchesOf(drafts, STATEMENT_LIMITS, ({ encoded }) => encoded.length)) {
        settle(items, await write(run, items, undefined, true));
        const left = await this.withoutStream(items);
        if (left.length > 0) settle(left, await write(run, left, undefined, true));
      }
      if (positions && drafts.every(({ outcome }) => outcome !== undefined)) await run(WRITE_CHECKPOINTS, positions);
      const payloads = [...new Set(drafts.map(({ message }) => message.stream))].flatMap(
        (stream) => this.notifications.payloadOf(stream) ?? [],
      );
      if (payloads.length > 0) await run(NOTIFY, [this.notifications.channel, payloads]);
      return true;
    } catch (error) {
      // By the error of the driver the application knows that the transaction can be run again.
      if (isConflict(error) || error instanceof AppendError) throw error;
      throw new AppendError(
        isDenied(error) ? ErrorCode.StoreDenied : ErrorCode.AppendFailed,
        `The messages could not be appended in the session: ${reasonOf(error)}. If they were part of a transaction, roll it back. ${advice(error)}`,
        isRefusal(error) ? 'no' : 'unknown',
        { cause: error },
      );
    }
  }
}

/** The outcomes if all drafts are stored. */
function assumed(outcomes: readonly AppendOutcome[], drafts: readonly Draft[]): readonly AppendOutcome[] {
  const all = [...outcomes];
  for (const { index } of drafts) all[index] = { status: 'duplicate' };
  return all;
}

async function write(
  send: Send,
  drafts: readonly Draft[],
  positions: Values | undefined,
  patient: boolean,
): Promise<readonly (string | null)[]> {
  if (drafts.length === 0) return [];
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
  const columns = [names, partitions, created, flags, starts, lengths].map(numberArray);
  const dedupe = drafts.some(isDeduped);
  return send(appendStatement({ dedupe, patient, positions: positions !== undefined }), [
    bodies,
    [...streams.keys()],
    ...columns,
    ...(dedupe ? dedupeValues(drafts) : []),
    ...(positions ?? []),
  ]);
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

/**
 * A message with a dedupe id may have to wait for another's transaction, and all messages of its statement wait with it. So messages of
 * streams without dedupe ids go in statements of their own. The order within a stream stays.
 */
function byWaiting(drafts: readonly Draft[]): readonly (readonly Draft[])[] {
  if (!drafts.some(isDeduped)) return [drafts];
  const waiting = new Set<string>();
  for (const draft of drafts) if (isDeduped(draft)) waiting.add(draft.message.stream);
  const others = drafts.filter(({ message }) => !waiting.has(message.stream));
  return others.length === 0 ? [drafts] : [others, drafts.filter(({ message }) => waiting.has(message.stream))];
}

function isDeduped({ message }: Draft): boolean {
  return message.dedupeId !== undefined;
}

function settle(drafts: readonly Draft[], ids: readonly (string | null)[]): void {
  for (const [index, draft] of drafts.entries()) {
    const id = ids[index];
    if (id === '') draft.outcome = { status: 'duplicate' };
    else if (id !== null && id !== undefined) draft.outcome = { status: 'stored', id };
  }
}

function fail(drafts: readonly Draft[], stored: 'no' | 'unknown', cause: unknown): void {
  const isAway = isOutOfReach(cause);
  const error = new AppendError(
    isDenied(cause) ? ErrorCode.StoreDenied : ErrorCode.AppendFailed,
    `PostgreSQL could not append: ${reasonOf(cause)}. ${advice(cause)}`,
    stored,
    { cause },
  );
  for (const draft of drafts) draft.outcome ??= { status: 'failed', error, ...(isAway && { storeAway: true }) };
}

function unknownOutcome(): AppendOutcome {
  const text = 'the outcome of the message is not known: something outside holds it up, or its stream is being dropped';
  return { status: 'failed', error: new AppendError(ErrorCode.AppendFailed, text, 'unknown') };
}

function sessionFailed(outcome: AppendOutcome | undefined): Error {
  return outcome?.status === 'failed'
    ? outcome.error
    : asStoreError('append', new Error('the streams could not be created'));
}
