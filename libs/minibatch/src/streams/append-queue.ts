import { AppendError, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { AppendOptions, AppendOutcome, NewMessage, StreamStore } from '../storage/stream-store.interface.js';

/** Most messages of one write. */
export const GROUP_MESSAGES = 1000;
/** Most bytes of one write (at least one message). */
export const GROUP_BYTES = 8 * 1024 * 1024;

/** Messages that were appended by one call, or by a part of one. */
interface Entry {
  readonly messages: readonly NewMessage[];
  readonly bytes: number;
  readonly checkpoint?: AppendOptions['checkpoint'];
  readonly settle: (outcomes: readonly AppendOutcome[]) => void;
}

/** A message with its size. */
export interface SizedMessage {
  readonly message: NewMessage;
  readonly bytes: number;
}

/**
 * Groups appends into writes. One write is under way at a time; what is appended meanwhile gathers and goes as the next
 * one, in the order of the calls. Nothing waits for a timer: an append that finds no write under way starts one at the
 * end of the current turn, so that a burst of calls goes together.
 *
 * Each call hears of its own messages only. A stream that can't be prepared fails the calls on it and no others.
 */
export class AppendQueue {
  private waiting: Entry[] = [];
  private writing = false;
  private last: Promise<unknown> = Promise.resolve();

  /**
   * @param prepare is the stream there, and open? Rejects if messages must not be stored on it
   * @param appended messages have been stored on the stream
   */
  constructor(
    private readonly store: StreamStore,
    private readonly prepare: (stream: string) => Promise<void>,
    private readonly appended: (stream: string) => void,
  ) {}

  /** Resolves with the outcomes in the order of the messages; never rejects for what happened to messages. */
  async add(
    messages: readonly SizedMessage[],
    checkpoint?: AppendOptions['checkpoint'],
  ): Promise<readonly AppendOutcome[]> {
    const parts = split(messages);
    const [only] = parts;
    if (parts.length <= 1) return this.enqueue(only ?? [], checkpoint);

    const outcomes = (await Promise.all(parts.map((part) => this.enqueue(part)))).flat();
    // A position goes with the messages before it or after them: here there are several writes, so after all of them.
    const [first] = messages;
    if (checkpoint && first && outcomes.every((outcome) => outcome.status !== 'failed')) {
      await this.store.writeCheckpoint(first.message.stream, checkpoint.source, checkpoint.position);
    }
    return outcomes;
  }

  /** Resolves when everything that has been added so far is answered. */
  async answered(): Promise<void> {
    // Entries are answered in order.
    await this.last;
  }

  private enqueue(
    messages: readonly SizedMessage[],
    checkpoint?: AppendOptions['checkpoint'],
  ): Promise<readonly AppendOutcome[]> {
    const answer = new Promise<readonly AppendOutcome[]>((settle) => {
      this.waiting.push({
        messages: messages.map(({ message }) => message),
        bytes: messages.reduce((sum, { bytes }) => sum + bytes, 0),
        ...(checkpoint ? { checkpoint } : {}),
        settle,
      });
    });
    this.last = answer;
    if (!this.writing) void this.writeAll();
    return answer;
  }

  private async writeAll(): Promise<void> {
    this.writing = true;
    // The end of the turn: the rest of a burst has been added by then.
    await Promise.resolve();
    while (this.waiting.length > 0) await this.write(this.nextGroup());
    this.writing = false;
  }

  /** The oldest entries that fit into one write. An entry with a checkpoint ends it, for a write stores only one. */
  private nextGroup(): Entry[] {
    let count = 0;
    let bytes = 0;
    let length = 0;
    for (const entry of this.waiting) {
      count += entry.messages.length;
      bytes += entry.bytes;
      if (length > 0 && (count > GROUP_MESSAGES || bytes > GROUP_BYTES)) break;
      length += 1;
      if (entry.checkpoint) break;
    }
    return this.waiting.splice(0, length);
  }

  private async write(group: Entry[]): Promise<void> {
    const entries = await this.prepared(group);
    if (entries.length === 0) return;
    const messages = entries.flatMap((entry) => entry.messages);
    const checkpoint = entries.at(-1)?.checkpoint;
    let outcomes: readonly AppendOutcome[];
    try {
      outcomes = await this.store.append(messages, checkpoint ? { checkpoint } : {});
    } catch (error) {
      for (const entry of entries) fail(entry, appendFailed(error));
      return;
    }
    let from = 0;
    for (const entry of entries) {
      entry.settle(outcomes.slice(from, from + entry.messages.length));
      from += entry.messages.length;
    }
    const stored = messages.filter((_, index) => outcomes[index]?.status === 'stored');
    for (const stream of new Set(stored.map((message) => message.stream))) this.appended(stream);
  }

  /** Without the entries whose stream takes no messages. */
  private async prepared(group: readonly Entry[]): Promise<Entry[]> {
    const streams = new Set(group.flatMap((entry) => entry.messages.map((message) => message.stream)));
    const refused = new Map<string, unknown>();
    await Promise.all(
      [...streams].map((stream) => this.prepare(stream).catch((error: unknown) => refused.set(stream, error))),
    );
    return group.filter((entry) => {
      const [first] = entry.messages;
      if (first === undefined || !refused.has(first.stream)) return true;
      fail(entry, notStored(refused.get(first.stream)));
      return false;
    });
  }
}

function fail(entry: Entry, error: AppendError): void {
  entry.settle(entry.messages.map(() => ({ status: 'failed', error })));
}

/** Parts of the messages, in order, that each fit into one write. */
function split(messages: readonly SizedMessage[]): SizedMessage[][] {
  const parts: SizedMessage[][] = [];
  let part: SizedMessage[] = [];
  let bytes = 0;
  for (const message of messages) {
    if (part.length > 0 && (part.length >= GROUP_MESSAGES || bytes + message.bytes > GROUP_BYTES)) {
      parts.push(part);
      part = [];
      bytes = 0;
    }
    part.push(message);
    bytes += message.bytes;
  }
  if (part.length > 0) parts.push(part);
  return parts;
}

/** The write itself failed: a store that does not say more leaves open whether it was carried out. */
export function appendFailed(error: unknown): AppendError {
  if (error instanceof AppendError) return error;
  const code = error instanceof MinibatchError ? error.code : ErrorCode.AppendFailed;
  return new AppendError(code, `append failed: ${text(error)}`, 'unknown', { cause: error });
}

/** It failed before the write. */
function notStored(error: unknown): AppendError {
  if (error instanceof AppendError) return error;
  const code = error instanceof MinibatchError ? error.code : ErrorCode.AppendFailed;
  return new AppendError(code, `append failed: ${text(error)}`, 'no', { cause: error });
}

function text(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  // The code stands at the end of the outer message.
  return message.replace(/ \[MINIBATCH_\w+\]$/, '');
}
