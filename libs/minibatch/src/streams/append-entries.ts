import { AppendError } from '../errors/minibatch.error.js';
import { answered, CheckpointError, type FailedCheckpoint } from '../storage/checkpoints.js';
import type { AppendOptions, AppendOutcome, Checkpoint, NewMessage } from '../storage/stream-store.interface.js';

/** A source's position, behind all messages of a call. */
export type SourcePosition = Pick<Checkpoint, 'source' | 'position'>;

/** One call; all its messages are on one stream. */
export interface Call {
  readonly stream: string;
  readonly position: SourcePosition | undefined;
  /** When it was made; monotonic. */
  readonly since: number;
  /** A message of the call could not be stored, so its position must not be. */
  failed: boolean;
  /** Parts of it that are held up; its position waits for them. */
  late: Promise<unknown>[] | undefined;
}

/** A call's messages, or those of them that go with one write. */
export interface Entry {
  readonly call: Call;
  readonly since: number;
  /** No more of the call's messages follow: its position goes along. */
  readonly last: boolean;
  readonly messages: readonly NewMessage[];
  readonly bytes: number;
  /** Of all messages, also those that are answered while others of the entry are retried. */
  readonly count: number;
  readonly settle: (outcomes: readonly AppendOutcome[]) => void;
  readonly reject: (error: CheckpointError | AppendError) => void;
  isAnswered: boolean;
}

/** A write in flight. */
export interface Write {
  readonly entries: readonly Entry[];
  /** The positions that go with it. */
  readonly checkpoints: ReadonlyMap<Entry, Checkpoint> | undefined;
  readonly options: AppendOptions;
  /** Monotonic. */
  readonly began: number;
  /** Messages that are held up, by their index. */
  held: Map<number, Promise<AppendOutcome>> | undefined;
}

/** Of `count` messages from an index on, those that are held up; undefined if none is. */
export function heldOf(
  { held }: Write,
  from: number,
  count: number,
): readonly (Promise<AppendOutcome> | undefined)[] | undefined {
  if (!held) return undefined;
  const some = Array.from({ length: count }, (_, index) => held.get(from + index));
  return some.some(Boolean) ? some : undefined;
}

type Away = Extract<AppendOutcome, { status: 'failed' }>;

export function isAway(outcome: AppendOutcome): outcome is Away {
  return outcome.status === 'failed' && outcome.storeAway === true;
}

/** The store was away, and surely has not stored the message. */
export function isUnsent(outcome: AppendOutcome): boolean {
  return isAway(outcome) && outcome.error instanceof AppendError && outcome.error.stored === 'no';
}

export function isStored({ status }: AppendOutcome): boolean {
  return status === 'stored';
}

/** What is retried: the entry with its unsent messages. It is answered with the others, when they are. */
export function unsentOf(entry: Entry, answers: readonly AppendOutcome[]): Entry {
  const unsent = answers.flatMap((answer, index) => (isUnsent(answer) ? [index] : []));
  if (unsent.length === answers.length) return entry;
  entry.call.failed ||= answers.some((answer) => answer.status === 'failed' && !isUnsent(answer));
  return {
    ...entry,
    messages: unsent.flatMap((index) => entry.messages[index] ?? []),
    settle: (outcomes) => {
      const all = [...answers];
      outcomes.forEach((outcome, index) => (all[unsent[index] ?? 0] = outcome));
      entry.settle(all);
    },
  };
}

export function messagesOf(entries: readonly Entry[]): readonly NewMessage[] {
  const [first] = entries;
  if (first && entries.length === 1) return first.messages;
  const messages: NewMessage[] = [];
  for (const entry of entries) messages.push(...entry.messages);
  return messages;
}

export function sourceKey({ stream }: Call, { source }: SourcePosition): string {
  return `${stream}\0${source}`;
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
    const { stream, position, failed, late } = call;
    if (!entry.last || position === undefined || failed || late) continue;
    checkpoints ??= new Map();
    checkpoints.set(entry, { stream, ...position, from, to });
  }
  return checkpoints;
}

/** What the entry's position could not be stored for. */
export function failureAt(
  { checkpoints }: Write,
  entry: Entry,
  unstored: readonly FailedCheckpoint[],
): FailedCheckpoint | undefined {
  const checkpoint = checkpoints?.get(entry);
  return unstored.find((failed) => failed.checkpoint === checkpoint);
}

/** The answers to all parts of a call as one. */
export async function joined(answers: readonly Promise<readonly AppendOutcome[]>[]): Promise<readonly AppendOutcome[]> {
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

/** That there are new messages: on the stream, which is returned, or, if it has several, on each of their partitions once. */
export function tell(
  { call: { stream }, messages }: Entry,
  toldSoFar: () => Set<string>,
  parts: { appended(stream: string, partition?: number): void },
): string | undefined {
  if (messages[0]?.partition === undefined) {
    parts.appended(stream);
    return stream;
  }
  const told = toldSoFar();
  for (const { partition = 0 } of messages) {
    const id = `${partition} ${stream}`;
    if (told.has(id)) continue;
    told.add(id);
    parts.appended(stream, partition);
  }
  return undefined;
}

/** @param options of a write without positions */
export function writeOf(entries: readonly Entry[], began: number, options: AppendOptions): Write {
  const checkpoints = checkpointsOf(entries);
  const own = checkpoints ? { ...options, checkpoints: [...checkpoints.values()] } : options;
  return { entries, checkpoints, options: own, began, held: undefined };
}

/** One look for each stream of the group that is not known to take messages. @param now monotonic */
export function looksAt(
  group: readonly Entry[],
  now: number,
  parts: { prepare(stream: string, now: number, hasKeys: () => boolean): Promise<void> | undefined },
): Map<string, Promise<void>> | undefined {
  let looks: Map<string, Promise<void>> | undefined;
  let last: string | undefined;
  for (const { call } of group) {
    const { stream } = call;
    // Mostly they are all on one.
    if (stream === last || looks?.has(stream)) continue;
    last = stream;
    const look = parts.prepare(stream, now, () => group.some((entry) => hasKeys(entry, stream)));
    if (look) looks = (looks ?? new Map<string, Promise<void>>()).set(stream, look);
  }
  return looks;
}

function hasKeys({ call, messages }: Entry, stream: string): boolean {
  return call.stream === stream && messages.some(({ key }) => key !== undefined);
}

export function itemsOfEntry({ messages }: Entry): number {
  return messages.length;
}

export function bytesOfEntry({ bytes }: Entry): number {
  return bytes;
}
