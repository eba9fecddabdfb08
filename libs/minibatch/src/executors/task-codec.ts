import { types } from 'node:util';
import * as BSON from 'bson';
import { messageOf } from '../errors/error-text.js';
import { ProtocolMismatch } from '../errors/executor-errors.js';
import { BsonDecoder } from '../storage/bson-decoder.js';
import { contentOf, readContent } from '../storage/content-message.js';
import type { StoredMessage } from '../storage/message.interface.js';
import type { Message } from '../windows/message.js';
import type { WindowTask } from './executor.interface.js';

/**
 * A window on its way to a worker.
 *
 * ```text
 * 0        version of the protocol
 * 1..      BSON TaskHeader
 * then for each message:
 *   0      1: every int64 is a bigint
 *   1..8   created, milliseconds, big-endian double
 *   9..10  length of the id, big-endian
 *   11..   id in UTF-8, then BSON { d: data, k?: key, h?: headers }
 * ```
 */
export const PROTOCOL = 1;

export interface TaskHeader {
  readonly label: string;
  readonly stream: string;
  readonly group: string;
  /** Absent: 0, as earlier versions write it. */
  readonly partition?: number;
  readonly id: string;
  readonly attempt: number;
  readonly recoveries: number;
  readonly late: boolean;
  readonly start?: Date;
  readonly end?: Date;
  readonly part?: number;
  readonly key?: string;
  /** Absent: false, as earlier versions write it. */
  readonly partial?: boolean;
  /** Absent: 0. */
  readonly revision?: number;
  readonly split?: { readonly of: string; readonly from: number; readonly to: number };
  readonly messages: number;
  readonly wantsResult: boolean;
}

/** A task as a worker sees it. */
export interface ReceivedTask {
  readonly header: TaskHeader;
  readonly messages: readonly Message[];
}

const INT64 = 0;
const CREATED = 1;
const ID_LENGTH = 9;
const ID = 11;
/** Of a BSON document at least. */
const SHORTEST = 5;

const decoder = new BsonDecoder(BSON);

/** What is known of the window, in every notation of the task. */
export function headerOf({ consumer, window, recoveries, wantsResult }: WindowTask): Omit<TaskHeader, 'messages'> {
  const { label, stream, group } = consumer;
  const { id, partition, attempt, late, start, end, part, key, partial, revision, split } = window;
  return {
    label,
    stream,
    group,
    ...(partition > 0 && { partition }),
    id,
    attempt,
    recoveries,
    late,
    ...(start && { start }),
    ...(end && { end }),
    ...(part !== undefined && { part }),
    ...(key !== undefined && { key }),
    ...(partial && { partial }),
    ...(revision > 0 && { revision }),
    ...(split && { split }),
    wantsResult,
  };
}

/** Copies the bytes of the messages; decodes none, unless its store gives no bytes. */
export function encodeTask(task: WindowTask, messages: readonly StoredMessage[]): Uint8Array {
  const header: TaskHeader = { ...headerOf(task), messages: messages.length };
  const head = BSON.serialize(header);
  const parts = messages.map((message) => ({ message, id: Buffer.from(message.id), content: contentOf(message) }));
  const size = parts.reduce((sum, each) => sum + ID + each.id.length + each.content.bson.length, 1 + head.length);
  // A buffer of its own, not a slice of a shared one: it may be transferred to another thread.
  const bytes = Buffer.from(new ArrayBuffer(size));
  bytes[0] = PROTOCOL;
  bytes.set(head, 1);
  let at = 1 + head.length;
  for (const each of parts) {
    bytes[at + INT64] = each.content.int64 === 'bigint' ? 1 : 0;
    bytes.writeDoubleBE(each.message.created.getTime(), at + CREATED);
    bytes.writeUInt16BE(each.id.length, at + ID_LENGTH);
    bytes.set(each.id, at + ID);
    bytes.set(each.content.bson, at + ID + each.id.length);
    at += ID + each.id.length + each.content.bson.length;
  }
  return bytes;
}

/**
 * Decodes the task and all of its messages.
 *
 * @throws ProtocolMismatch if the bytes are of another version, or no task
 * @throws MalformedBson if a message can't be decoded
 */
export function decodeTask(bytes: Uint8Array): ReceivedTask {
  checkBytes('WindowWorker.handle', bytes, 'what task.encode() made');
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [version] = buffer;
  if (version !== PROTOCOL) throw otherVersion('this worker', version);
  const body = documentAt(buffer, 1);
  const header = decoded(() => decoder.document(body, 'auto')) as unknown as TaskHeader;
  const messages: Message[] = [];
  let at = 1 + body.length;
  for (let index = 0; index < header.messages; index += 1) {
    const content = at + ID + (at + ID <= buffer.length ? buffer.readUInt16BE(at + ID_LENGTH) : 0);
    const document = documentAt(buffer, content);
    messages.push({
      id: buffer.toString('utf8', at + ID, content),
      created: new Date(buffer.readDoubleBE(at + CREATED)),
      ...readContent(decoder.document(document, buffer[at + INT64] === 1 ? 'bigint' : 'auto')),
    });
    at = content + document.length;
  }
  return { header, messages };
}

function documentAt(buffer: Buffer, at: number): Buffer {
  const size = at + SHORTEST <= buffer.length ? buffer.readInt32LE(at) : 0;
  if (size < SHORTEST || at + size > buffer.length)
    throw new ProtocolMismatch('a worker was sent a task that ends too early');
  return buffer.subarray(at, at + size);
}

function decoded<R>(decode: () => R): R {
  try {
    return decode();
  } catch (cause) {
    throw new ProtocolMismatch(`a worker can't read its task: ${messageOf(cause)}`, { cause });
  }
}

/** A transport may hand over text, or nothing. @throws ProtocolMismatch */
export function checkBytes(who: string, given: unknown, allowed: string): void {
  if (types.isUint8Array(given)) return;
  const what = given === undefined || given === null ? String(given) : `a value of type ${typeof given}`;
  throw new ProtocolMismatch(`${who} was given ${what}; allowed: ${allowed}, as a Buffer or Uint8Array`);
}

/** @param who the one that reads, at the beginning of a sentence */
export function otherVersion(who: string, version: number | undefined): ProtocolMismatch {
  return new ProtocolMismatch(
    `${who} speaks version ${PROTOCOL} of the protocol and was sent version ${version ?? 'none'}: deploy the same version of ` +
      'nestjs-minibatch to emitters and workers',
    { details: { version, expected: PROTOCOL } },
  );
}
