import { createHash } from 'node:crypto';
import type { Mutable } from '../../common/mutable.js';
import { isA, messageOf } from '../../errors/error-text.js';
import { ExecutorUnavailable, ProtocolMismatch, RemoteHandlerError } from '../../errors/executor-errors.js';
import type { StoredMessage } from '../../storage/message.interface.js';
import type { Message } from '../../windows/message.js';
import type { ServedConsumer, WindowOutcome, WindowTask } from '../executor.interface.js';
import { type Answer, encodeAnswer, KINDS, outcomeOf, readOutcome } from '../outcome-codec.js';
import { decodeTask, headerOf, otherVersion, PROTOCOL, type ReceivedTask, type TaskHeader } from '../task-codec.js';
import { fromJson, NoJson, toJson } from './json-values.js';

/** Larger windows go by reference: the worker reads their messages from the store. */
export const MOST_JOB_BYTES = 1024 * 1024;

/**
 * A window as the data of a job: `messages` as JSON, which people and other languages read; `task`, bytes in Base64, if a value has no JSON;
 * `ids`, if it is too large.
 */
export interface JobData {
  readonly v: number;
  /** What `TaskHeader` says, dates in Extended JSON. */
  readonly window: Readonly<Record<string, unknown>>;
  readonly messages?: readonly JobMessage[];
  readonly task?: string;
  readonly ids?: readonly string[];
  readonly partition?: number;
}

interface JobMessage {
  readonly id: string;
  readonly created: unknown;
  readonly data: unknown;
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * The same run has the same id in every process that holds the lease, so that a new holder finds what an earlier one began. Not of the
 * fence: it is another one then.
 */
export function jobIdOf({ window, recoveries }: Pick<WindowTask, 'window' | 'recoveries'>): string {
  const { id, part, split, attempt } = window;
  const run = JSON.stringify([id, part ?? null, split?.from ?? null, split?.to ?? null, attempt, recoveries]);
  return createHash('sha256').update(run).digest('hex').slice(0, 32);
}

/** @throws whatever the store throws for a message that it can't decode */
export function jobDataOf(task: WindowTask): JobData {
  const { window, partition } = task;
  const head = { v: PROTOCOL, window: headOf(task) };
  if (task.bytes > MOST_JOB_BYTES) return { ...head, ids: task.ids, partition };
  try {
    return { ...head, messages: window.messages.map(toJobMessage) };
  } catch (error) {
    if (!isA(error, NoJson)) throw error;
    return { ...head, task: Buffer.from(task.encode()).toString('base64') };
  }
}

function headOf(task: WindowTask): Record<string, unknown> {
  const header = headerOf(task);
  const { start, end } = header;
  return { ...header, ...(start && { start: toJson(start) }), ...(end && { end: toJson(end) }) };
}

function toJobMessage({ id, created, data, key, headers }: Message): JobMessage {
  // Spreads would be a good part of what a message costs.
  const message: Mutable<JobMessage> = { id, created: toJson(created), data: toJson(data) };
  if (key !== undefined) message.key = key;
  if (headers !== undefined) message.headers = headers;
  return message;
}

/** Reads messages from the store. */
type Load = (partition: number, ids: readonly string[]) => Promise<readonly StoredMessage[]>;

/** @throws ProtocolMismatch; whatever the store throws; MalformedBson if a message can't be decoded */
export async function readJob(data: unknown, { label }: ServedConsumer, load: Load): Promise<ReceivedTask> {
  const { v, window, messages, task, ids, partition } = (data ?? {}) as Partial<JobData>;
  if (v !== PROTOCOL) throw otherVersion(`the worker of ${label}`, typeof v === 'number' ? v : undefined);
  if (task !== undefined) return decodeTask(Buffer.from(task, 'base64'));
  if (typeof window !== 'object' || (!Array.isArray(messages) && !Array.isArray(ids)))
    throw new ProtocolMismatch(`the worker of ${label} was given a job that holds no window`);
  const header = fromJson(window) as TaskHeader;
  if (messages) return { header, messages: messages.map(fromJobMessage) };
  const wanted = ids ?? [];
  const loaded = await load(partition ?? 0, wanted);
  if (loaded.length < wanted.length) {
    throw new ExecutorUnavailable(
      `the worker of ${label} found ${loaded.length} of the ${wanted.length} messages of window ${header.id} in its store: a window of more than ` +
        `${MOST_JOB_BYTES} bytes goes by reference, so emitters and workers must share a store`,
      { details: { consumer: label, window: header.id } },
    );
  }
  return { header, messages: loaded.map((message) => message.read()) };
}

function fromJobMessage({ id, created, data, key, headers }: JobMessage): Message {
  return {
    id,
    created: fromJson(created) as Date,
    data: fromJson(data),
    ...(key !== undefined && { key }),
    ...(headers !== undefined && { headers }),
  };
}

/** What a job returns: the outcome, or its bytes in Base64 if the result has no JSON. */
export function returnValueOf(answer: Extract<Answer, { kind: 'handled' }>): unknown {
  const { result, rejected } = answer;
  try {
    return { ...(result !== undefined && { result: toJson(result) }), rejected };
  } catch (error) {
    if (!isA(error, NoJson)) throw error;
    return { answer: Buffer.from(encodeAnswer(answer)).toString('base64') };
  }
}

/** A job that has ended, as it lies in Redis. */
export interface EndedJob {
  readonly returnvalue: string | null;
  readonly failedReason: string | null;
  /** Holds the answer of a worker of ours, if the job has failed. */
  readonly progress: string | null;
  readonly stacktrace: string | null;
}

/** What BullMQ fails a job with whose worker has stopped to renew its lock. */
const STALLED = 'job stalled more than allowable limit';

/** It has failed because its worker was lost, and not by what its method threw. */
export function isOfLostWorker({ failedReason, progress }: EndedJob): boolean {
  if (failedReason !== STALLED) return false;
  // A method may throw this text, and a worker that was believed lost may write its answer late.
  return (parse(progress) as { message?: unknown } | undefined)?.message !== STALLED;
}

/** @throws what an executor rejects with: see `Executor` */
export function outcomeOfJob(job: EndedJob): WindowOutcome {
  const { returnvalue, failedReason, progress, stacktrace } = job;
  if (failedReason === null) return returned(parse(returnvalue));
  const answer = parse(progress) as Answer | undefined;
  if (KINDS.has(answer?.kind)) return outcomeOf(answer as Answer);
  // A worker of another language, or something around the method.
  const stacks = parse(stacktrace);
  const stack: unknown = Array.isArray(stacks) ? stacks.at(-1) : undefined;
  const name = typeof stack === 'string' ? nameIn(stack) : undefined;
  throw new RemoteHandlerError(failedReason, {
    ...(name !== undefined && { name }),
    ...(typeof stack === 'string' && stack !== '' && { stack }),
  });
}

/** JavaScript's begins with the class of what was thrown, Python's ends with it. */
function nameIn(stack: string): string | undefined {
  const lines = stack.trim().split('\n');
  const line = stack.startsWith('Traceback') ? lines.at(-1) : lines[0];
  return /^(\w+): /.exec(line ?? '')?.[1];
}

function returned(value: unknown): WindowOutcome {
  // A worker of another language may return nothing.
  if (value === null || value === undefined) return { result: undefined, rejected: [] };
  const { answer, result, rejected = [] } = value as { answer?: unknown; result?: unknown; rejected?: unknown };
  if (typeof answer === 'string') return readOutcome(Buffer.from(answer, 'base64'));
  const isOutcome = typeof value === 'object' && ('result' in value || 'rejected' in value);
  // The engine says what is wrong with it.
  if (!isOutcome) return value as WindowOutcome;
  return { result: fromJson(result), rejected: rejected as WindowOutcome['rejected'] };
}

function parse(text: string | null): unknown {
  if (text === null || text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ProtocolMismatch(`a job in Redis can't be read: ${messageOf(cause)}`, { cause });
  }
}
