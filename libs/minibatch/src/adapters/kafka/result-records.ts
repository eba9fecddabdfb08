import type { Message } from 'kafkajs';
import { messageOf, ResultRefused } from '../../errors/minibatch.error.js';
import { show } from '../../common/checks.js';
import { bytesOf, writeJson } from '../../common/json-writer.js';
import { eachElement, entriesOf } from '../elements.js';
import { FailureReason } from '../failure-reason.js';
import { resultId } from '../../windows/result-id.js';
import type { Window } from '../../windows/window.js';
import { refuseWindow } from '../returned-window.js';
import type { KafkaValue, ResolvedKafkaSink } from './kafka-sink.options.js';

/** A result on its way to Kafka. */
export interface OutgoingRecord {
  /** Position in the handler's array; undefined if it returned no array. */
  readonly index: number | undefined;
  readonly message: Message;
  /** About what it takes in a batch of Kafka, uncompressed. */
  readonly bytes: number;
}

/** Length, offset, timestamp and attributes of a record; length of a header's name and value. */
const RECORD_BYTES = 32;
const HEADER_BYTES = 8;

type Writing = Pick<ResolvedKafkaSink, 'where' | 'key' | 'headers' | 'value' | 'idHeader'>;

/**
 * The records of a result: one, or one for each element of an array. Undefined and undefined elements give none.
 *
 * @throws ResultRefused if one cannot be made: none of them is sent then
 */
export function recordsOf(writing: Writing, result: unknown, window: Window): readonly OutgoingRecord[] {
  return eachElement(
    result,
    (element, index) => recordOf(writing, element, window, index),
    (index, cause) => notMade(writing.where, window, index, `it throws when it is read: ${messageOf(cause)}`, cause),
  );
}

function recordOf(writing: Writing, result: unknown, window: Window, index: number | undefined): OutgoingRecord {
  const call = <V>(option: string, work: () => V): V => {
    try {
      return work();
    } catch (cause) {
      throw notMade(writing.where, window, index, `${option} threw: ${messageOf(cause)}`, cause);
    }
  };
  const value = call('value', () => (writing.value ?? toJson)(result, window));
  if (typeof value !== 'string' && value !== null && !(value instanceof Uint8Array)) {
    const why = `its value is ${show(value)}: a string, bytes or null is needed`;
    throw notMade(writing.where, window, index, why);
  }
  const key = writing.key && call('key', () => writing.key?.(result, window));
  const notBytes = (what: string, given: unknown) =>
    notMade(writing.where, window, index, `${what} is ${show(given)}: a string or bytes are needed`);
  if (key !== undefined && key !== null && !isText(key)) throw notBytes('its key', key);
  const headers: Record<string, Buffer | string> = {};
  let bytes = RECORD_BYTES + sizeOf(key) + sizeOf(value);
  const addHeader = (name: string, header: string | Uint8Array) => {
    headers[name] = bufferOf(header);
    bytes += HEADER_BYTES + Buffer.byteLength(name) + sizeOf(header);
  };
  const own = writing.headers && call('headers', () => entriesOf(writing.headers?.(result, window)));
  for (const [name, header] of own ?? []) {
    if (!isText(header)) throw notBytes(`its header '${name}'`, header);
    addHeader(name, header);
  }
  // One, not one for each part: kafkajs takes as long for a header as for the value.
  if (writing.idHeader !== false) {
    addHeader(writing.idHeader, resultId(window, index));
  }
  const message = {
    value: value === null ? null : bufferOf(value),
    headers,
    ...(key === undefined || key === null ? {} : { key: bufferOf(key) }),
  };
  return { index, message, bytes };
}

/** Undefined of what JSON knows nothing of, as a function. */
function toJson(result: unknown): KafkaValue | undefined {
  refuseWindow(result);
  return result === null ? null : (bytesOf(result) ?? writeJson(result));
}

function isText(value: unknown): value is string | Uint8Array {
  return typeof value === 'string' || value instanceof Uint8Array;
}

function sizeOf(value: string | Uint8Array | null | undefined): number {
  return value === undefined || value === null ? 0 : Buffer.byteLength(value);
}

function bufferOf(value: string | Uint8Array): Buffer | string {
  return typeof value === 'string' || Buffer.isBuffer(value) ? value : Buffer.from(value);
}

function notMade(
  where: string,
  window: Window,
  index: number | undefined,
  why: string,
  cause?: unknown,
): ResultRefused {
  const which = index === undefined ? 'the result' : `result ${index}`;
  return new ResultRefused(`${where}: ${which} of window ${window.id} cannot become a Kafka record: ${why}`, {
    cause,
    details: { reason: FailureReason.Unencodable, window: window.id, ...(index === undefined ? {} : { index }) },
  });
}
