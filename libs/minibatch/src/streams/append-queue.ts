import { AppendError, ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import type { AppendOptions, AppendOutcome, NewMessage, StreamStore } from '../storage/stream-store.interface.js';

/** Most messages of one write. */
export const GROUP_MESSAGES = 1000;
/** Most bytes of one write (at least one message). */
export const GROUP_BYTES = 8 * 1024 * 1024;

/** Messages that were appended by one call, or by a part of one; all on one stream. */
interface Entry {
  readonly stream: string;
  readonly messages: readonly NewMessage[];
  readonly bytes: number;
  readonly checkpoint: AppendOptions['checkpoint'];
  readonly settle: (outcomes: readonly AppendOutcome[]) => void;
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
   * @param prepare is the stream there, and open? Undefined if it is known to be; rejects if messages must not be stored on it
   * @param appended messages have been stored on the stream
   */
  constructor(
    private readonly store: StreamStore,
    private readonly prepare: (stream: string) => Promise<void> | undefined,
    private readonly appended: (stream: string) => void,
  ) {}

  /**
   * Resolves with the outcomes in the order of the messages; never rejects for what happened to messages.
   *
   * @param messages at least one, with their sizes, all on one stream
   */
  add(messages: readonly NewMessage[], checkpoint?: AppendOptions['checkpoint']): Promise<readonly AppendOutcome[]> {
    const parts = split(messages);
    const [only, ...others] = parts;
    return only && others.length === 0 ? this.enqueue(only, checkpoint) : this.addParts(parts, checkpoint);
  }

  private async addParts(
    parts: readonly Part[],
    checkpoint: AppendOptions['checkpoint'],
  ): Promise<readonly AppendOutcome[]> {
    const outcomes = (await Promise.all(parts.map((part) => this.enqueue(part)))).flat();
    // A position goes with the messages before it or after them: here there are several writes, so after all of them.
    const stream = parts[0]?.messages[0]?.stream;
    if (checkpoint && stream !== undefined && outcomes.every((outcome) => outcome.status !== 'failed')) {
      await this.store.writeCheckpoint(stream, checkpoint.source, checkpoint.position);
    }
    return outcomes;
  }

  /** Resolves when everything that has been added so far is answered. */
  async answered(): Promise<void> {
    // Entries are answered in order.
    await this.last;
  }

  private enqueue(
    { messages, bytes }: Part,
    checkpoint?: AppendOptions['checkpoint'],
  ): Promise<readonly AppendOutcome[]> {
    const answer = new Promise<readonly AppendOutcome[]>((settle) => {
      this.waiting.push({ stream: messages[0]?.stream ?? '', messages, bytes, checkpoint, settle });
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

  private async write(group: readonly Entry[]): Promise<void> {
    const streams = new Set<string>();
    for (const { stream } of group) streams.add(stream);
    const entries = await this.prepared(group, streams);
    if (entries.length === 0) return;
    const messages: NewMessage[] = [];
    for (const entry of entries) messages.push(...entry.messages);
    const checkpoint = entries.at(-1)?.checkpoint;
    let outcomes: readonly AppendOutcome[];
    try {
      outcomes = await this.store.append(messages, checkpoint ? { checkpoint } : {});
    } catch (error) {
      for (const entry of entries) fail(entry, appendFailed(error));
      return;
    }
    const stored = new Set<string>();
    let from = 0;
    for (const { stream, messages: own, settle } of entries) {
      const answers = outcomes.slice(from, from + own.length);
      settle(answers);
      if (!stored.has(stream) && answers.some(({ status }) => status === 'stored')) stored.add(stream);
      from += own.length;
    }
    for (const stream of stored) this.appended(stream);
  }

  /** Without the entries whose stream takes no messages. */
  private prepared(group: readonly Entry[], streams: ReadonlySet<string>): readonly Entry[] | Promise<Entry[]> {
    const refused = new Map<string, unknown>();
    const looks: Promise<unknown>[] = [];
    for (const stream of streams) {
      const look = this.prepare(stream)?.catch((error: unknown) => refused.set(stream, error));
      if (look) looks.push(look);
    }
    if (looks.length === 0) return group;
    return Promise.all(looks).then(() =>
      group.filter((entry) => {
        if (!refused.has(entry.stream)) return true;
        fail(entry, notStored(refused.get(entry.stream)));
        return false;
      }),
    );
  }
}

function fail(entry: Entry, error: AppendError): void {
  entry.settle(entry.messages.map(() => ({ status: 'failed', error })));
}

interface Part {
  readonly messages: NewMessage[];
  bytes: number;
}

/** Parts of the messages, in order, that each fit into one write. */
function split(messages: readonly NewMessage[]): Part[] {
  const parts: Part[] = [];
  let part: Part | undefined;
  for (const message of messages) {
    const { bytes = 0 } = message;
    if (!part || part.messages.length >= GROUP_MESSAGES || part.bytes + bytes > GROUP_BYTES) {
      part = { messages: [], bytes: 0 };
      parts.push(part);
    }
    part.messages.push(message);
    part.bytes += bytes;
  }
  return parts;
}

/** The write itself failed: a store that does not say more leaves open whether it was carried out. */
function appendFailed(error: unknown): AppendError {
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
  // The code stands at the end of the outer message.
  return messageOf(error).replace(/ \[MINIBATCH_\w+\]$/, '');
}
