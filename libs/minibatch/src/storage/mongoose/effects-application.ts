import { mongo } from 'mongoose';
import { ErrorCode, messageOf, MinibatchError } from '../../errors/minibatch.error.js';
import type { AppendOutcome, NewMessage } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { ENTRY_BYTES, toMessage, type WindowEffects } from './effects-codec.js';
import type { Indexes } from './indexes.js';
import { inCommands } from './insert-missing.js';
import { throwIfFailed, write } from './raw-writes.js';
import type { StoredOutput } from './schemas/consumer.schema.js';
import { dueKey, rowId, versionOf } from './state-keys.js';
import { DUPLICATE_KEY, retriedIfLost } from './store-errors.js';

/** The replacement of a row. */
interface RowWrite {
  readonly _id: string;
  readonly version: string;
  readonly document: mongo.Document;
  readonly bytes: number;
}

/** The type of a string, by its number. */
const STRING = 2;

/**
 * Applies effects that are decided. All of it may be repeated, also by processes that decided it long ago: a row is replaced only by one of
 * the same or a later version, a removed row stays as an empty one with its version, and a message is recognised by its dedupe id.
 */
export class EffectsApplication {
  constructor(
    private readonly collections: Pick<Collections, 'state'>,
    private readonly indexes: Indexes,
    private readonly appends: (messages: readonly NewMessage[]) => Promise<readonly AppendOutcome[]>,
  ) {}

  /** The consumer has state. */
  prepare(): Promise<void> {
    return this.indexes.ensureState();
  }

  /** @param windows in the order of `seq` */
  async apply(windows: readonly WindowEffects[]): Promise<void> {
    const results = await Promise.allSettled([
      this.writeRows(windows),
      this.append(windows.flatMap(({ effects }) => effects.append ?? [])),
    ]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  /** Only the messages. */
  async append(outputs: readonly StoredOutput[]): Promise<void> {
    if (outputs.length === 0) return;
    const outcomes = await this.appends(outputs.map(toMessage));
    const failures = outcomes.flatMap((outcome, n) =>
      outcome.status === 'failed' ? [{ ...outcome, stream: outputs[n]!.stream }] : [],
    );
    const [first] = failures;
    if (!first) return;
    if (first.storeAway) throw first.error;
    throw new MinibatchError(
      ErrorCode.AppendFailed,
      `${failures.length} of ${outputs.length} messages that a commit has decided could not be appended, the first of them to stream ` +
        `'${first.stream}': ${messageOf(first.error)}. They stay in the consumer's document and are tried again until the database takes them`,
      { cause: first.error, details: { stream: first.stream, messages: failures.length } },
    );
  }

  private async writeRows(windows: readonly WindowEffects[]): Promise<void> {
    const rows = toRowWrites(windows);
    if (rows.length === 0) return;
    await this.indexes.ensureState();
    const { state } = this.collections;
    for (const some of inCommands(rows)) {
      const reply = await retriedIfLost(() => write(state, 'update', some.map(toUpsert)));
      const present = reply.writeErrors?.filter(({ code }) => code === DUPLICATE_KEY) ?? [];
      if (present.length < (reply.writeErrors?.length ?? 0) || reply.writeConcernError)
        throwIfFailed({ ...reply, writeErrors: reply.writeErrors?.filter(({ code }) => code !== DUPLICATE_KEY) ?? [] });
      if (present.length === 0) continue;
      // There is a later version. Or an earlier one was inserted at the same moment, by a former holder; or something that is no row.
      const again = present.map(({ index }) => toUpdate(some[index]!));
      throwIfFailed(await retriedIfLost(() => write(state, 'update', again)));
    }
  }
}

/** Of several changes of a row the last. */
function toRowWrites(windows: readonly WindowEffects[]): readonly RowWrite[] {
  const rows = new Map<string, RowWrite>();
  for (const { seq, effects } of windows) {
    const { fence, put = [], remove = [] } = effects;
    const state = effects.state.toHexString();
    const version = versionOf(fence, seq);
    for (const { slot, value, due } of put) {
      const _id = rowId(state, slot);
      const document = { version, value, ...(due !== undefined && { dueKey: dueKey(state, due, slot) }) };
      rows.set(_id, { _id, version, document, bytes: ENTRY_BYTES * 4 + 8 * slot.length + value.length() });
    }
    for (const slot of remove) {
      const _id = rowId(state, slot);
      const document = { version, settled: new Date() };
      rows.set(_id, { _id, version, document, bytes: ENTRY_BYTES * 4 + 8 * slot.length });
    }
  }
  return [...rows.values()];
}

function toUpsert({ _id, version, document }: RowWrite): mongo.Document {
  return { q: { _id, version: { $lte: version } }, u: document, upsert: true };
}

function toUpdate({ _id, version, document }: RowWrite): mongo.Document {
  const isReplaceable = [{ version: { $lte: version } }, { version: { $not: { $type: STRING } } }];
  return { q: { _id, $or: isReplaceable }, u: document };
}
