import { AppendError, ErrorCode, MinibatchError, messageOf } from '../errors/minibatch.error.js';
import { answered, CheckpointError, type FailedCheckpoint, isCheckpointError } from '../storage/checkpoints.js';
import type { AppendOutcome, Checkpoint, NewMessage, StreamStore } from '../storage/stream-store.interface.js';

/** Most messages of one write. */
export const GROUP_MESSAGES = 1000;
/** Most bytes of one write (at least one message). */
export const GROUP_BYTES = 8 * 1024 * 1024;

/** A source's position, behind all messages of a call. */
export type SourcePosition = Pick<Checkpoint, 'source' | 'position'>;

/** One call; all its messages are on one stream. */
interface Call {
  readonly stream: string;
  readonly position: SourcePosition | undefined;
  /** A message of it could not be stored, so its position must not be. */
  failed: boolean;
}

/** A call's messages, or as many of them as fit into one write. */
interface Entry {
  readonly call: Call;
  /** No more of the call's messages follow: its position goes along. */
  readonly last: boolean;
  readonly messages: readonly NewMessage[];
  readonly bytes: number;
  readonly settle: (outcomes: readonly AppendOutcome[]) => void;
  readonly reject: (error: MinibatchError) => void;
}

/**
 * Groups appends into writes. One write is under way at a time; what is appended meanwhile gathers and goes as the next
 * one, in the order of the calls. Nothing waits for a timer: an append that finds no write under way starts one at the
 * end of the current turn, so that a burst of calls goes together.
 *
 * Each call hears of its own messages and its own position only. A stream that can't be prepared fails the calls on it and no
 * others. The position of a call that needs several writes goes with the last of them.
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
   * Resolves with the outcomes in the order of the messages. Rejects if a position could not be stored, although the messages were
   * (`CheckpointError`) or because there were none; never for what happened to messages.
   *
   * @param messages with their sizes, all on the stream; none to store a position alone
   */
  add(stream: string, messages: readonly NewMessage[], position?: SourcePosition): Promise<readonly AppendOutcome[]> {
    const call: Call = { stream, position, failed: false };
    const parts = split(messages);
    const [only, another] = parts;
    if (only && !another) return this.enqueue(call, only, true);
    return joined(parts.map((part, index) => this.enqueue(call, part, index === parts.length - 1)));
  }

  /** Resolves when everything that has been added so far is answered. */
  async answered(): Promise<void> {
    // Entries are answered in order.
    await this.last.catch(() => undefined);
  }

  private enqueue(call: Call, { messages, bytes }: Part, last: boolean): Promise<readonly AppendOutcome[]> {
    const answer = new Promise<readonly AppendOutcome[]>((settle, reject) => {
      this.waiting.push({ call, last, messages, bytes, settle, reject });
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

  /** The oldest entries that fit into one write. */
  private nextGroup(): Entry[] {
    let count = 0;
    let bytes = 0;
    let length = 0;
    for (const entry of this.waiting) {
      count += entry.messages.length;
      bytes += entry.bytes;
      if (length > 0 && (count > GROUP_MESSAGES || bytes > GROUP_BYTES)) break;
      length += 1;
    }
    return this.waiting.splice(0, length);
  }

  private async write(group: readonly Entry[]): Promise<void> {
    const streams = new Set<string>();
    for (const { call } of group) streams.add(call.stream);
    const entries = await this.prepared(group, streams);
    if (entries.length === 0) return;
    const messages: NewMessage[] = [];
    for (const entry of entries) messages.push(...entry.messages);
    const checkpoints = checkpointsOf(entries);
    let outcomes: readonly AppendOutcome[];
    let unstored: readonly FailedCheckpoint[] = [];
    try {
      outcomes = await this.store.append(messages, checkpoints ? { checkpoints: [...checkpoints.values()] } : {});
    } catch (error) {
      if (!isCheckpointError(error)) {
        for (const entry of entries) fail(entry, appendFailed(error));
        return;
      }
      ({ outcomes, failed: unstored } = error);
    }
    const stored = new Set<string>();
    let from = 0;
    for (const entry of entries) {
      const { stream } = entry.call;
      const answers = outcomes.slice(from, from + entry.messages.length);
      from += entry.messages.length;
      const checkpoint = checkpoints?.get(entry);
      settle(
        entry,
        answers,
        unstored.find((failed) => failed.checkpoint === checkpoint),
      );
      if (!stored.has(stream) && answers.some(({ status }) => status === 'stored')) stored.add(stream);
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
        if (!refused.has(entry.call.stream)) return true;
        fail(entry, notStored(refused.get(entry.call.stream)));
        return false;
      }),
    );
  }
}

/** The positions that go with a write; undefined if none does. */
function checkpointsOf(entries: readonly Entry[]): Map<Entry, Checkpoint> | undefined {
  let checkpoints: Map<Entry, Checkpoint> | undefined;
  let call: Call | undefined;
  let from = 0;
  let to = 0;
  for (const entry of entries) {
    if (entry.call !== call) from = to;
    to += entry.messages.length;
    ({ call } = entry);
    const { stream, position, failed } = call;
    if (!entry.last || position === undefined || failed) continue;
    checkpoints ??= new Map();
    checkpoints.set(entry, { stream, ...position, from, to });
  }
  return checkpoints;
}

function settle(entry: Entry, outcomes: readonly AppendOutcome[], unstored?: FailedCheckpoint): void {
  const { call } = entry;
  if (unstored) return entry.reject(new CheckpointError(outcomes, [unstored]));
  if (call.position) call.failed ||= outcomes.some(({ status }) => status === 'failed');
  entry.settle(outcomes);
}

function fail(entry: Entry, error: AppendError): void {
  if (entry.messages.length === 0) return entry.reject(error);
  settle(
    entry,
    entry.messages.map(() => ({ status: 'failed', error })),
  );
}

/** The answers to all parts of a call as one. */
async function joined(answers: readonly Promise<readonly AppendOutcome[]>[]): Promise<readonly AppendOutcome[]> {
  let unstored: readonly FailedCheckpoint[] = [];
  const outcomes: AppendOutcome[] = [];
  for (const answer of await Promise.allSettled(answers)) {
    if (answer.status === 'fulfilled') {
      outcomes.push(...answer.value);
      continue;
    }
    const error: unknown = answer.reason;
    if (!(error instanceof CheckpointError)) throw error;
    outcomes.push(...error.outcomes);
    unstored = error.failed;
  }
  return answered(outcomes, unstored);
}

interface Part {
  readonly messages: readonly NewMessage[];
  readonly bytes: number;
}

/** Parts of the messages, in order, that each fit into one write. */
function split(messages: readonly NewMessage[]): readonly Part[] {
  const parts: Part[] = [];
  let from = 0;
  let sum = 0;
  messages.forEach(({ bytes = 0 }, index) => {
    if (index > from && (index - from >= GROUP_MESSAGES || sum + bytes > GROUP_BYTES)) {
      parts.push({ messages: messages.slice(from, index), bytes: sum });
      from = index;
      sum = 0;
    }
    sum += bytes;
  });
  parts.push(from === 0 ? { messages, bytes: sum } : { messages: messages.slice(from), bytes: sum });
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
