import { mongo } from 'mongoose';
import { ErrorCode, messageOf } from '../../errors/minibatch.error.js';
import { answered } from '../checkpoints.js';
import type { AppendOptions, AppendOutcome, NewMessage } from '../stream-store.interface.js';
import type { Checkpoints } from './checkpoints.js';
import type { Draft } from './draft.js';
import { failAway, failed, type Inserts } from './inserts.js';
import { toDocument } from './message-codec.js';
import type { MessageIds } from './message-ids.js';
import type { TransactionInserts } from './transaction-inserts.js';

/**
 * MongoDB takes documents of 16 MiB; a little is left for what is added to a message later: marks of groups, times. A
 * larger one would not be refused by every server with an error, but by closing the connection.
 */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024 - 64 * 1024;

/** A message that is estimated to be smaller needs no exact count, which takes as long as writing it. */
const SURELY_FITS = 1024 * 1024;

/** Of a document's fields beside what stands in them. */
const ENVELOPE_BYTES = 256;
/** In UTF-8, of one UTF-16 unit. */
const MOST_BYTES_OF_A_CHARACTER = 3;

/** Of one insert command; the driver splits at one below the 1000 that the smallest servers announce. */
const COMMAND_MESSAGES = 999;
const COMMAND_BYTES = 16 * 1024 * 1024;

/** Appends: ids first, then as few insert commands as sizes allow, then the sources' positions. */
export class Appends {
  constructor(
    private readonly ids: MessageIds,
    private readonly inserts: Inserts,
    private readonly transactions: TransactionInserts,
    private readonly checkpoints: Checkpoints,
  ) {}

  async append(messages: readonly NewMessage[], options: AppendOptions): Promise<readonly AppendOutcome[]> {
    const { session, checkpoints = [] } = options;
    const drafts = messages.map((message) => this.draft(message));
    const sendable = drafts.filter(({ outcome }) => outcome === undefined);
    if (session !== undefined) {
      await this.transactions.insert(sendable, session);
      const outcomes = drafts.map(outcomeOf);
      // Its type has been checked just before.
      await this.checkpoints.write(checkpoints, outcomes, session as mongo.ClientSession);
      return outcomes;
    }
    await this.insertInCommands(sendable);
    const { late } = options;
    if (late) tellLate(drafts, late);
    else await Promise.all(drafts.flatMap((draft) => draft.late ?? []));
    const outcomes = drafts.map(outcomeOf);
    if (checkpoints.length === 0) return outcomes;
    return answered(outcomes, await this.checkpoints.write(checkpoints, outcomes));
  }

  private draft(message: NewMessage): Draft {
    const document = toDocument(message, this.ids.next());
    const about = estimate(message);
    if (about < SURELY_FITS) return { document, bytes: about };
    try {
      const bytes = mongo.BSON.calculateObjectSize(document, { ignoreUndefined: false });
      if (bytes <= MAX_MESSAGE_BYTES) return { document, bytes };
      const reason = `the message has ${bytes} bytes, more than the ${MAX_MESSAGE_BYTES} that fit: split it, or store a reference`;
      return { document, bytes, outcome: failed(ErrorCode.MessageTooLarge, 'no', reason, undefined) };
    } catch (error) {
      const reason = `data can't be written as BSON: ${messageOf(error)}`;
      return { document, bytes: 0, outcome: failed(ErrorCode.NotStorable, 'no', reason, error) };
    }
  }

  /** One after the other, so that the order of the call is the order in the stream also for those who read meanwhile. */
  private async insertInCommands(drafts: readonly Draft[]): Promise<void> {
    const commands = byWaiting(drafts).flatMap((part) => [...inCommands(part)]);
    for (const [index, command] of commands.entries()) {
      if (await this.inserts.insert(command)) continue;
      const rest = commands.slice(index + 1).flat();
      failAway(rest, 'no', new Error('not sent, because the server did not answer to the messages before'));
      return;
    }
  }
}

/**
 * Messages with a dedupe id may have to wait for a transaction of others, and messages of the same command with them. So those of streams
 * that use none here go in commands of their own; the order within a stream stays.
 */
function byWaiting(drafts: readonly Draft[]): readonly (readonly Draft[])[] {
  const deduped = new Set<string>();
  for (const { document } of drafts) if (document.dedupeKey !== undefined) deduped.add(document.stream);
  if (deduped.size === 0) return [drafts];
  const others = drafts.filter(({ document }) => !deduped.has(document.stream));
  return others.length === 0 ? [drafts] : [others, drafts.filter(({ document }) => deduped.has(document.stream))];
}

function tellLate(drafts: readonly Draft[], late: NonNullable<AppendOptions['late']>): void {
  drafts.forEach((draft, index) => {
    if (draft.late && draft.outcome === undefined)
      late(
        index,
        draft.late.then(() => outcomeOf(draft)),
      );
  });
}

/** Bytes, rather too many; infinitely many if the data have not been counted. */
function estimate({ stream, bytes = Number.POSITIVE_INFINITY, key, headers, dedupeId }: NewMessage): number {
  let characters = 2 * stream.length + (key?.length ?? 0) + (dedupeId?.length ?? 0);
  for (const name in headers) characters += name.length + (headers[name]?.length ?? 0) + 3;
  return bytes + ENVELOPE_BYTES + MOST_BYTES_OF_A_CHARACTER * characters;
}

function* inCommands(drafts: readonly Draft[]): Generator<Draft[]> {
  let command: Draft[] = [];
  let bytes = 0;
  for (const draft of drafts) {
    if (command.length > 0 && (command.length >= COMMAND_MESSAGES || bytes + draft.bytes > COMMAND_BYTES)) {
      yield command;
      command = [];
      bytes = 0;
    }
    command.push(draft);
    bytes += draft.bytes;
  }
  if (command.length > 0) yield command;
}

function outcomeOf(draft: Draft): AppendOutcome {
  return draft.outcome ?? failed(ErrorCode.AppendFailed, 'unknown', 'nothing is known of the message', undefined);
}
