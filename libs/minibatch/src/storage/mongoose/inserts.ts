import { mongo } from 'mongoose';
import { AppendError, ErrorCode, messageOf } from '../../errors/minibatch.error.js';
import type { AppendOutcome } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import type { BufferDocument } from './schemas/buffer.schema.js';
import { advice, DUPLICATE_KEY, isInDoubt, neverExecuted, unwrapped, writeErrorsOf } from './store-errors.js';

/** A message on its way: its place in the call, and what became of it. */
export interface Draft {
  readonly document: BufferDocument;
  readonly bytes: number;
  outcome?: AppendOutcome;
}

/** Codes by which a server refuses one document for what is in it. */
const NOT_STORABLE = new Set([
  52, // DollarPrefixedFieldName, before MongoDB 5
  57, // DottedFieldName
  15, // Overflow: nested too deeply
]);
const TOO_LARGE = new Set([10334, 17419, 17420]);

/** Inserts one command's worth of messages and finds out what became of each. */
export class Inserts {
  constructor(
    private readonly collections: Collections,
    /** Whether the driver repeats writes by itself. */
    private readonly retries: () => boolean,
  ) {}

  /**
   * Sets the outcome of every draft. When the answer is lost the same documents, with the same ids, are sent once more: those
   * that are there already answer by their ids. Resolves with false if the server is out of reach, so that the caller
   * sends no more.
   */
  async insert(drafts: readonly Draft[]): Promise<boolean> {
    const first = await this.send(drafts);
    if (first === undefined) {
      settle(drafts, []);
      return true;
    }
    if (first instanceof mongo.MongoBulkWriteError) {
      settle(drafts, await this.judge(drafts, first, false));
      return true;
    }
    if (first instanceof mongo.BSON.BSONError) return this.insertSerializable(drafts, first);
    if (neverExecuted(first, this.retries())) {
      fail(drafts, 'no', first);
      return false;
    }

    const second = await this.send(drafts);
    if (second === undefined) {
      settle(drafts, []);
      return true;
    }
    if (second instanceof mongo.MongoBulkWriteError) {
      const verdicts = await this.judge(drafts, second, true).catch(() => undefined);
      if (verdicts) settle(drafts, verdicts);
      else fail(drafts, 'unknown', second);
      return verdicts !== undefined;
    }
    fail(drafts, 'unknown', second);
    return false;
  }

  /** Resolves with what it failed with. */
  private async send(drafts: readonly Draft[]): Promise<unknown> {
    try {
      await this.collections.buffer.insertMany(
        drafts.map(({ document }) => document),
        // Undefined becomes null, as the driver has it by itself and as the other stores have it.
        { ordered: false, ignoreUndefined: false },
      );
      return undefined;
    } catch (error) {
      return unwrapped(error) ?? new Error('unknown');
    }
  }

  /** The serializer refused the command as a whole: without those it can't write, the rest goes. */
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

  /** What a bulk error says of each draft; undefined for those that are stored. */
  private async judge(
    drafts: readonly Draft[],
    error: mongo.MongoBulkWriteError,
    again: boolean,
  ): Promise<(AppendOutcome | undefined)[]> {
    const verdicts: (AppendOutcome | undefined)[] = drafts.map(() => undefined);
    const seen: number[] = [];
    for (const write of writeErrorsOf(error)) {
      if (write.code !== DUPLICATE_KEY) verdicts[write.index] = refusal(write);
      else if (!isOwnId(write)) seen.push(write.index);
      // Its own id: it is there, since an earlier sending whose answer was lost.
    }
    if (seen.length > 0) {
      const own = again ? await this.storedByUs(seen.map((index) => drafts[index])) : undefined;
      for (const index of seen) {
        if (!own?.has(drafts[index]?.document._id.toHexString() ?? '')) verdicts[index] = { status: 'duplicate' };
      }
    }
    if (!isInDoubt(error)) return verdicts;
    const reason = `MongoDB has not acknowledged the messages by a majority: ${error.message}`;
    return verdicts.map((verdict) => verdict ?? failed(ErrorCode.AppendFailed, 'unknown', reason, error));
  }

  /** Ids among these that are in the buffer: their dedupe key was taken by themselves. */
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
  const message = `MongoDB could not append: ${messageOf(cause)}. ${advice(cause)}`;
  for (const draft of drafts) draft.outcome ??= failed(ErrorCode.AppendFailed, stored, message, cause);
}

function settle(drafts: readonly Draft[], verdicts: readonly (AppendOutcome | undefined)[]): void {
  drafts.forEach((draft, index) => {
    draft.outcome = verdicts[index] ?? { status: 'stored', id: draft.document._id.toHexString() };
  });
}

function serializationError(document: BufferDocument): unknown {
  try {
    mongo.BSON.serialize(document, { ignoreUndefined: false });
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Servers name the index in the message; not all of them add the key as a field. */
function isOwnId(write: mongo.WriteError): boolean {
  return /\bindex: (\S+)/.exec(write.errmsg ?? '')?.[1] === '_id_';
}

function refusal(write: mongo.WriteError): AppendOutcome {
  const reason = write.errmsg ?? 'refused';
  if (NOT_STORABLE.has(write.code)) {
    return failed(ErrorCode.NotStorable, 'no', `MongoDB can't store the data: ${reason}`, write.err);
  }
  if (TOO_LARGE.has(write.code)) {
    return failed(ErrorCode.MessageTooLarge, 'no', `MongoDB finds the message too large: ${reason}`, write.err);
  }
  return failed(ErrorCode.AppendFailed, 'no', `MongoDB refused the message: ${reason}`, write.err);
}
