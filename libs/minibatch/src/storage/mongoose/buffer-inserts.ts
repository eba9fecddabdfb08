import { MAX_DOCUMENT_MESSAGE_BYTES } from './message-limit.js';
import { tooLargeText } from '../../errors/store-faults.js';
import { mongo } from 'mongoose';
import { asError } from '../../errors/error-text.js';
import { AppendError, ErrorCode, messageOf } from '../../errors/minibatch.error.js';
import { backoff } from '../../common/backoff.js';
import { type Clock, delay, SystemClock } from '../../common/clock.js';
import type { AppendOutcome } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import type { Draft } from './draft.js';
import { Isolation } from './isolation.js';
import { insertOne, problemsOf, write, type WriteFailure, type WriteProblems } from './raw-writes.js';
import type { BufferDocument } from './schemas/buffer.schema.js';
import {
  advice,
  DUPLICATE_KEY,
  foreignIndexOf,
  isDenied,
  isLeaving,
  isOutOfReach,
  isServerLost,
  neverExecuted,
} from './store-errors.js';

/**
 * An insert with dedupe ids that takes longer than this, in milliseconds, or than usual by this factor, may be waiting for a transaction.
 */
const SUSPICIOUS = 250;
const UNUSUAL = 4;

/** Pauses between attempts to reach a server that refuses connections. */
const REPEAT_BACKOFF = { base: 50, max: 1000, jitter: 0.3 };

/** Error codes by which a server rejects one document because of its content. */
const NOT_STORABLE = new Set([
  52, // DollarPrefixedFieldName, before MongoDB 5
  57, // DottedFieldName
  15, // Overflow: nested too deeply
]);
const TOO_LARGE = new Set([10334, 17419, 17420]);

/** Inserts the messages of one command and finds out what became of each. */
export class BufferInserts {
  private readonly isolation: Isolation;
  /** How long an insert takes on average, in milliseconds. */
  private usual = 0;

  constructor(
    private readonly collections: Pick<Collections, 'buffer' | 'database'>,
    /** Whether another server takes over when one is lost, so that writes should be repeated there. */
    private readonly repeats: () => boolean,
    /** Whether other clients may have open transactions. */
    private readonly transactions: () => boolean = () => false,
    private readonly clock: Clock = new SystemClock(),
    /** How long the driver tries to find a server, in milliseconds. */
    private readonly patience: () => number = () => 0,
  ) {
    this.isolation = new Isolation(collections);
  }

  /**
   * Sets the outcome of every draft. When the answer is lost, or the server hands over to another one, the same documents are sent again
   * with the same ids: a duplicate `_id` says that a document was stored before. Resolves with false if the server is out of reach: then
   * the caller stops sending.
   */
  insert(drafts: readonly Draft[]): Promise<boolean> {
    if (drafts.some(isDeduped) && this.transactions()) return this.insertOrIsolate(drafts);
    // Not async: each append that is awaited on its own would pay for it.
    return this.request(drafts).then(
      (reply) => settleStored(drafts, reply) || this.conclude(drafts, reply, false),
      (error: unknown) => this.conclude(drafts, problemsOf(error), false),
    );
  }

  /** For messages with dedupe ids, which another client's open transaction may hold. */
  private async insertOrIsolate(drafts: readonly Draft[]): Promise<boolean> {
    const sending = this.send(drafts);
    if (await this.answersInTime(sending)) return this.conclude(drafts, await sending, false);

    const answered = new AbortController();
    const concluding = sending.then((first) => {
      answered.abort();
      return this.conclude(drafts, first, true);
    });
    const isolating = this.isolation.store(drafts.filter(isDeduped), answered.signal).then(
      () => true,
      // Only an attempt: the insert itself will report the error.
      () => concluding,
    );
    const goOn = await Promise.race([concluding, isolating]);
    for (const draft of drafts) if (draft.outcome === undefined) draft.late = concluding;
    return goOn;
  }

  /** One timer and no abort controller: this is done for each insert. */
  private answersInTime(sending: Promise<unknown>): Promise<boolean> {
    const began = this.clock.monotonic();
    return new Promise((resolve, reject) => {
      const cancel = this.clock.schedule(Math.max(SUSPICIOUS, UNUSUAL * this.usual), () => resolve(false));
      const answered = () => {
        cancel();
        this.usual += (this.clock.monotonic() - began - this.usual) / 8;
        resolve(true);
      };
      sending.then(answered, reject);
    });
  }

  /** @param again some of the documents may have been sent before */
  private async conclude(drafts: readonly Draft[], first: WriteProblems | Error, again: boolean): Promise<boolean> {
    if (settleStored(drafts, first)) return true;
    if (!(first instanceof Error) && !isHandingOver(first)) {
      const verdicts = await this.judge(drafts, first, again).catch(asError);
      if (!(verdicts instanceof Error)) {
        settle(drafts, verdicts);
        return true;
      }
      return failBy(drafts, 'unknown', verdicts);
    }
    if (first instanceof mongo.BSON.BSONError) return this.insertSerializable(drafts, first);
    const executed = again || !neverExecuted(first);
    if (!executed && !(isServerLost(first) && this.repeats())) return failBy(drafts, 'no', first);
    return this.repeat(
      drafts.filter(({ outcome }) => outcome === undefined),
      executed,
    );
  }

  /**
   * Sends once more: the driver itself waits for a server as long as it may. But a server that has just died refuses connections before the
   * driver has noticed. What certainly did not reach it is sent again within that time.
   * @param executed some of the documents may be stored
   */
  private async repeat(drafts: readonly Draft[], executed: boolean): Promise<boolean> {
    if (drafts.length === 0) return true;
    const began = this.clock.monotonic();
    let second = await this.send(drafts);
    for (let tries = 1; executed && isTurnedAway(second); tries += 1) {
      if (this.clock.monotonic() - began >= this.patience()) break;
      await delay(this.clock, backoff(REPEAT_BACKOFF, tries));
      second = await this.send(drafts);
    }
    if (second instanceof Error) return failBy(drafts, executed || !neverExecuted(second) ? 'unknown' : 'no', second);
    const verdicts = await this.judge(drafts, second, true).catch(asError);
    if (verdicts instanceof Error) return failBy(drafts, 'unknown', verdicts);
    settle(drafts, verdicts);
    return true;
  }

  /** Resolves with the error if the command failed. */
  private send(drafts: readonly Draft[]): Promise<WriteProblems | Error> {
    return this.request(drafts).catch(problemsOf);
  }

  private request(drafts: readonly Draft[]): Promise<WriteProblems> {
    const { buffer } = this.collections;
    const [only] = drafts;
    if (only && drafts.length === 1 && !this.repeats()) return insertOne(buffer, only.document);
    return write(
      buffer,
      'insert',
      drafts.map(({ document }) => document),
    );
  }

  /** The serializer rejected the whole command: the documents that it can write are sent without the others. */
  private async insertSerializable(drafts: readonly Draft[], cause: unknown): Promise<boolean> {
    const good: Draft[] = [];
    for (const draft of drafts) {
      const error = serializationError(draft.document);
      if (error === undefined) good.push(draft);
      else
        draft.outcome = failed(
          ErrorCode.NotStorable,
          'no',
          `data can't be written as BSON: ${messageOf(error)}`,
          error,
        );
    }
    if (good.length === drafts.length) {
      fail(drafts, 'no', cause);
      return true;
    }
    return good.length === 0 || this.insert(good);
  }

  /** The outcome of each draft according to the reply; undefined for those that were stored. */
  private async judge(
    drafts: readonly Draft[],
    { writeErrors = [], writeConcernError }: WriteProblems,
    again: boolean,
  ): Promise<readonly (AppendOutcome | undefined)[]> {
    const verdicts: (AppendOutcome | undefined)[] = drafts.map(() => undefined);
    const seen: WriteFailure[] = [];
    for (const failure of writeErrors) {
      if (failure.code !== DUPLICATE_KEY) verdicts[failure.index] = refusal(failure);
      else if (!isOwnId(failure)) seen.push(failure);
      // A duplicate of its own id: it was stored by an earlier attempt whose answer was lost.
    }
    if (seen.length > 0) {
      const own = again ? await this.storedByUs(seen.map(({ index }) => drafts[index])) : undefined;
      for (const failure of seen) {
        const draft = drafts[failure.index];
        if (own?.has(draft?.id ?? '')) continue;
        verdicts[failure.index] = foreignIndexOf(failure) === undefined ? { status: 'duplicate' } : refusal(failure);
      }
    }
    if (!writeConcernError) return verdicts;
    const error = new mongo.MongoServerError({ ...writeConcernError });
    const reason = `A majority of the servers has not acknowledged the messages: ${messageOf(error)}`;
    return verdicts.map((verdict) => verdict ?? failed(ErrorCode.AppendFailed, 'unknown', reason, error));
  }

  /** The ids that are in the buffer: these messages hold their dedupe keys themselves. */
  private async storedByUs(drafts: readonly (Draft | undefined)[]): Promise<Set<string>> {
    const ids = drafts.flatMap((draft) => (draft ? [draft.document._id] : []));
    const found = await this.collections.buffer
      .find({ _id: { $in: ids } }, { projection: { _id: 1 }, batchSize: ids.length + 1 })
      .toArray();
    return new Set(found.map(({ _id }) => _id.toHexString()));
  }
}

export function failed(
  code: ErrorCode,
  stored: 'no' | 'unknown',
  message: string,
  cause: unknown,
): AppendOutcome & { status: 'failed' } {
  return { status: 'failed', error: new AppendError(code, message, stored, { cause }) };
}

export function fail(drafts: readonly Draft[], stored: 'no' | 'unknown', cause: unknown): void {
  for (const draft of drafts) draft.outcome ??= notAppended(stored, cause);
}

/** The command has not reached a server, and one may be back in a moment. */
function isTurnedAway(reply: WriteProblems | Error): boolean {
  return reply instanceof Error && neverExecuted(reply) && isOutOfReach(reply);
}

/** Resolves with true if the server is reachable in spite of the failure, so that the next command may be sent. */
function failBy(drafts: readonly Draft[], stored: 'no' | 'unknown', cause: unknown): boolean {
  const isThere = !isOutOfReach(cause);
  if (isThere) fail(drafts, stored, cause);
  else failAway(drafts, stored, cause);
  return isThere;
}

/** Like `fail`, for a server that is out of reach. */
export function failAway(drafts: readonly Draft[], stored: 'no' | 'unknown', cause: unknown): void {
  for (const draft of drafts) draft.outcome ??= { ...notAppended(stored, cause), storeAway: true };
}

function notAppended(stored: 'no' | 'unknown', cause: unknown): AppendOutcome & { status: 'failed' } {
  const code = isDenied(cause) ? ErrorCode.StoreDenied : ErrorCode.AppendFailed;
  return failed(code, stored, `MongoDB could not append: ${messageOf(cause)}. ${advice(cause)}`, cause);
}

function settle(drafts: readonly Draft[], verdicts: readonly (AppendOutcome | undefined)[]): void {
  drafts.forEach((draft, index) => {
    draft.outcome ??= verdicts[index] ?? { status: 'stored', id: draft.id };
  });
}

export function isDeduped({ document }: Draft): boolean {
  return document.dedupeKey !== undefined;
}

function serializationError(document: BufferDocument): unknown {
  try {
    mongo.BSON.serialize(document, { ignoreUndefined: false });
    return undefined;
  } catch (error) {
    return error;
  }
}

/** False unless all documents were inserted, and will survive. */
function settleStored(drafts: readonly Draft[], reply: WriteProblems | Error): boolean {
  if (reply instanceof Error || reply.writeErrors?.length || reply.writeConcernError) return false;
  for (const draft of drafts) draft.outcome ??= { status: 'stored', id: draft.id };
  return true;
}

/** The server that executed the command may be gone, and the write with it: the next server is asked as well. */
function isHandingOver({ writeConcernError }: WriteProblems): boolean {
  return writeConcernError !== undefined && isLeaving(writeConcernError.code);
}

/** Every server names the index in the message, but not every server sends the key as a field. */
function isOwnId({ errmsg = '' }: WriteFailure): boolean {
  return /\bindex: (\S+)/.exec(errmsg)?.[1] === '_id_';
}

function refusal(failure: WriteFailure): AppendOutcome {
  const { code, errmsg: reason = 'refused' } = failure;
  if (NOT_STORABLE.has(code)) {
    return failed(ErrorCode.NotStorable, 'no', `MongoDB can't store the data: ${reason}`, failure);
  }
  if (TOO_LARGE.has(code)) {
    return failed(ErrorCode.MessageTooLarge, 'no', `${tooLargeText(MAX_DOCUMENT_MESSAGE_BYTES)}: ${reason}`, failure);
  }
  return failed(ErrorCode.AppendFailed, 'no', `MongoDB rejected the message: ${reason}`, failure);
}
