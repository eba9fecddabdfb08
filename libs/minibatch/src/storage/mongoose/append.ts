import { tooLargeText } from '../../errors/store-faults.js';
import { mongo } from 'mongoose';
import { batchesOf } from '../../common/batches.js';
import { asError } from '../../errors/error-text.js';
import { ErrorCode, messageOf } from '../../errors/minibatch.error.js';
import { answered } from '../checkpoints.js';
import type { AppendOptions, AppendOutcome, MessageId, NewMessage } from '../stream-store.interface.js';
import { localAppends } from './change-watch.js';
import type { Checkpoints } from './checkpoints.js';
import type { Draft } from './draft.js';
import { failAway, failed, type BufferInserts, isDeduped } from './buffer-inserts.js';
import { toDocument } from './buffer-message.js';
import type { MessageIds } from './message-ids.js';
import { MAX_DOCUMENT_MESSAGE_BYTES } from './message-limit.js';
import { RawValue, sizeOf } from './raw-value.js';
import type { BufferDocument } from './schemas/buffer.schema.js';
import type { TransactionInserts } from './transaction-inserts.js';

/** A message with a smaller estimate is not measured exactly, because that takes as long as writing it. */
const SURELY_FITS = 1024 * 1024;

/** Bytes that a document needs in addition to the values of its fields. */
const ENVELOPE_BYTES = 256;
/** Bytes in UTF-8 for one UTF-16 unit. */
const MOST_BYTES_OF_A_CHARACTER = 3;

/** Limits of one insert command. The smallest servers accept 1000 documents, and the driver splits a command that has as many. */
const COMMAND_MESSAGES = 999;
const COMMAND_BYTES = 16 * 1024 * 1024;

/** Appends messages: assigns their ids, sends as few insert commands as their sizes allow, then stores the positions of sources. */
export class Appends {
  constructor(
    private readonly ids: MessageIds,
    private readonly inserts: BufferInserts,
    private readonly transactions: TransactionInserts,
    private readonly checkpoints: Checkpoints,
  ) {}

  append(messages: readonly NewMessage[], options: AppendOptions): Promise<readonly AppendOutcome[]> {
    // Not async: each append that is awaited on its own would pay for it.
    try {
      const drafts = messages.map(this.draft);
      if (options.session !== undefined) return this.appendInSession(messages, drafts, options);
      return this.insert(sendable(drafts)).then(() => {
        localAppends.tell(messages);
        if (options.checkpoints?.length || drafts.some(isHeldUp)) return this.finish(drafts, options);
        return drafts.map(outcomeOf);
      });
    } catch (error) {
      return Promise.reject(asError(error));
    }
  }

  private async finish(drafts: readonly Draft[], options: AppendOptions): Promise<readonly AppendOutcome[]> {
    await tellLate(drafts, options);
    const outcomes = drafts.map(outcomeOf);
    const { checkpoints = [] } = options;
    return answered(outcomes, await this.checkpoints.write(checkpoints, outcomes));
  }

  private async appendInSession(
    messages: readonly NewMessage[],
    drafts: readonly Draft[],
    { session, checkpoints = [] }: AppendOptions,
  ): Promise<readonly AppendOutcome[]> {
    await this.transactions.insert(sendable(drafts), session);
    const outcomes = drafts.map(outcomeOf);
    // The insert has checked its type.
    await this.checkpoints.write(checkpoints, outcomes, session as mongo.ClientSession);
    localAppends.tell(messages);
    return outcomes;
  }

  private readonly draft = (message: NewMessage): Draft => {
    const document = toDocument(message, this.ids.next());
    const about = estimate(message);
    const { lastHex } = this.ids;
    return about < SURELY_FITS ? draftOf(document, lastHex, about) : measured(document, lastHex);
  };

  /** One command after the other, so that consumers that read in the meantime see the messages in the order of the call. */
  private insert(drafts: readonly Draft[]): Promise<unknown> {
    // The usual case: each append is awaited before the next one.
    if (drafts.length === 1) return this.inserts.insert(drafts);
    return this.insertInTurn(byWaiting(drafts).flatMap(inCommands));
  }

  private async insertInTurn(commands: readonly (readonly Draft[])[]): Promise<void> {
    for (let index = 0; index < commands.length; index += 1) {
      if (await this.inserts.insert(commands[index] ?? [])) continue;
      const rest = commands.slice(index + 1).flat();
      failAway(rest, 'no', new Error('not sent, because the server did not answer for the messages before it'));
      return;
    }
  }
}

/**
 * A message with a dedupe id may have to wait for another client's transaction, and all messages of its command wait with it. So messages
 * of streams without dedupe ids go in separate commands. The order within a stream stays.
 */
function byWaiting(drafts: readonly Draft[]): readonly (readonly Draft[])[] {
  if (!drafts.some(isDeduped)) return [drafts];
  const deduped = new Set<string>();
  for (const draft of drafts) if (isDeduped(draft)) deduped.add(draft.document.stream);
  const others = drafts.filter(({ document }) => !deduped.has(document.stream));
  return others.length === 0 ? [drafts] : [others, drafts.filter(({ document }) => deduped.has(document.stream))];
}

/** Waits for the late outcomes, unless the caller has asked to be told of them. */
async function tellLate(drafts: readonly Draft[], { late }: AppendOptions): Promise<void> {
  if (!late) {
    await Promise.all(drafts.flatMap((draft) => draft.late ?? []));
    return;
  }
  drafts.forEach((draft, index) => {
    if (draft.late && draft.outcome === undefined)
      late(
        index,
        draft.late.then(() => outcomeOf(draft)),
      );
  });
}

function draftOf(document: BufferDocument, id: MessageId, bytes: number, outcome?: AppendOutcome): Draft {
  return { document, id, bytes, outcome, late: undefined };
}

/** Refused if it is too large, or can't be written. */
function measured(document: BufferDocument, id: MessageId): Draft {
  try {
    const bytes = sizeOf(document, [document.data instanceof RawValue ? document.data : undefined]);
    if (bytes <= MAX_DOCUMENT_MESSAGE_BYTES) return draftOf(document, id, bytes);
    const reason = tooLargeText(MAX_DOCUMENT_MESSAGE_BYTES, bytes);
    return draftOf(document, id, bytes, failed(ErrorCode.MessageTooLarge, 'no', reason, undefined));
  } catch (error) {
    const reason = `data can't be written as BSON: ${messageOf(error)}`;
    return draftOf(document, id, 0, failed(ErrorCode.NotStorable, 'no', reason, error));
  }
}

/** An upper bound in bytes; infinite if the data have not been counted. */
function estimate({ stream, bytes = Number.POSITIVE_INFINITY, key, headers, dedupeId }: NewMessage): number {
  let characters = 2 * stream.length + (key?.length ?? 0) + (dedupeId?.length ?? 0);
  for (const name in headers) characters += name.length + (headers[name]?.length ?? 0) + 3;
  return bytes + ENVELOPE_BYTES + MOST_BYTES_OF_A_CHARACTER * characters;
}

function inCommands(drafts: readonly Draft[]): (readonly Draft[])[] {
  const limits = { items: COMMAND_MESSAGES, bytes: COMMAND_BYTES };
  return batchesOf(drafts, limits, ({ bytes }) => bytes).map(({ items }) => items);
}

/** The drafts that can be stored. */
function sendable(drafts: readonly Draft[]): readonly Draft[] {
  return drafts.some(isRefused) ? drafts.filter((draft) => !isRefused(draft)) : drafts;
}

function isRefused({ outcome }: Draft): boolean {
  return outcome !== undefined;
}

function isHeldUp({ late }: Draft): boolean {
  return late !== undefined;
}

function outcomeOf(draft: Draft): AppendOutcome {
  return (
    draft.outcome ?? failed(ErrorCode.AppendFailed, 'unknown', 'the outcome of the message is not known', undefined)
  );
}
