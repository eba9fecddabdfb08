import * as BSON from 'bson';
import { isA, messageOf, propertyOf, stackOf } from '../errors/error-text.js';
import {
  ExecutorUnavailable,
  ProtocolMismatch,
  RemoteHandlerError,
  ResultUnsendable,
} from '../errors/executor-errors.js';
import { bareMessageOf, ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { BsonDecoder } from '../storage/bson-decoder.js';
import { toStorable } from '../storage/storable.js';
import type { Rejection, WindowOutcome } from './executor.interface.js';
import { checkBytes, otherVersion, PROTOCOL } from './task-codec.js';

/** Most bytes of a result, by default. */
export const MAX_RESULT_BYTES = 1024 * 1024;

/** What a worker answers; in bytes its version, then one BSON document. */
export type Answer =
  | { readonly kind: 'handled'; readonly result?: unknown; readonly rejected: readonly Rejection[] }
  | {
      readonly kind: 'threw';
      readonly message: string;
      readonly name?: string;
      readonly stack?: string;
      readonly code?: string;
    }
  | { readonly kind: 'unavailable' | 'mismatch' | 'unsendable'; readonly message: string };

const decoder = new BsonDecoder(BSON);

/** @throws ResultUnsendable */
export function answerOf({ result, rejected }: WindowOutcome, label: string, maxResultBytes: number): Answer {
  if (result === undefined) return { kind: 'handled', rejected };
  const what = `${label} returned a result that can't be sent back from its worker`;
  let value: unknown;
  try {
    value = toStorable(result, maxResultBytes, 'result').value;
  } catch (cause) {
    const isTooLarge = isA(cause, MinibatchError) && cause.code === ErrorCode.MessageTooLarge;
    const why = isTooLarge
      ? `it is larger than ${maxResultBytes} bytes. Return less, write it where it belongs and return a reference, or raise maxResultBytes`
      : `${bareMessageOf(cause)}. Return plain data`;
    throw new ResultUnsendable(`${what}: ${why}`, { cause, details: { consumer: label, maxResultBytes } });
  }
  return { kind: 'handled', rejected, ...(value !== undefined && { result: value }) };
}

/** What a worker answers if it has not called the handler, or can't send its result. */
export function failureOf(error: unknown): Answer {
  if (isA(error, ResultUnsendable)) return { kind: 'unsendable', message: bareMessageOf(error) };
  if (isA(error, ProtocolMismatch)) return { kind: 'mismatch', message: bareMessageOf(error) };
  if (isA(error, ExecutorUnavailable)) return { kind: 'unavailable', message: bareMessageOf(error) };
  return thrownAnswer(error);
}

/** What a worker answers if the handler threw, or what it was given can't be decoded. */
export function thrownAnswer(error: unknown): Answer {
  const [name, code, stack] = [propertyOf(error, 'name'), propertyOf(error, 'code'), stackOf(error)];
  return {
    kind: 'threw',
    message: messageOf(error),
    ...(typeof name === 'string' && { name }),
    ...(typeof code === 'string' && { code }),
    ...(stack !== undefined && { stack }),
  };
}

/**
 * Reads what `WindowWorker.handle` answered.
 *
 * @throws RemoteHandlerError, ExecutorUnavailable, ResultUnsendable as the worker says; ProtocolMismatch if it can't be read
 */
export function readOutcome(bytes: Uint8Array): WindowOutcome {
  return outcomeOf(decode(bytes));
}

/** @throws RemoteHandlerError, ExecutorUnavailable, ResultUnsendable, ProtocolMismatch as the worker says */
export function outcomeOf(answer: Answer): WindowOutcome {
  switch (answer.kind) {
    case 'handled':
      return { result: answer.result, rejected: answer.rejected };
    case 'threw':
      throw new RemoteHandlerError(answer.message, answer);
    case 'unsendable':
      throw new ResultUnsendable(answer.message);
    case 'unavailable':
      throw new ExecutorUnavailable(answer.message);
    case 'mismatch':
      throw new ProtocolMismatch(answer.message);
  }
}

export function encodeAnswer(answer: Answer): Uint8Array {
  const body = BSON.serialize(answer);
  // A buffer of its own: it may be transferred to another thread.
  const bytes = new Uint8Array(1 + body.length);
  bytes[0] = PROTOCOL;
  bytes.set(body, 1);
  return bytes;
}

export const KINDS: ReadonlySet<unknown> = new Set(['handled', 'threw', 'unavailable', 'mismatch', 'unsendable']);

function decode(bytes: Uint8Array): Answer {
  checkBytes('readOutcome', bytes, 'what WindowWorker.handle answered');
  const [version] = bytes;
  if (version !== PROTOCOL) throw otherVersion('this process', version);
  let answer: Record<string, unknown>;
  try {
    answer = decoder.document(Buffer.from(bytes.buffer, bytes.byteOffset + 1, bytes.byteLength - 1), 'bigint');
  } catch (cause) {
    throw new ProtocolMismatch(`the answer of a worker can't be read: ${messageOf(cause)}`, { cause });
  }
  if (!KINDS.has(answer['kind']))
    throw new ProtocolMismatch(`a worker answered with the unknown kind '${String(answer['kind'])}'`);
  return answer as unknown as Answer;
}
