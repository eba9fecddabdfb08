import { isUtf8 } from 'node:buffer';
import type { IPublishPacket } from 'mqtt';
import { asError } from '../../errors/error-text.js';
import { type LargeIntegers, readJson } from '../../common/json-reader.js';
import { textOfValues } from '../source-text.js';

/** A message as it came from the broker. */
export interface MqttMessage {
  /** The topic it was published to, without wildcards. */
  readonly topic: string;
  /** The bytes as they came. */
  readonly payload: Buffer;
  /** The payload as the declared `format`; what is appended. */
  readonly data: unknown;
  /** The lower one of the publisher's and the subscription's. */
  readonly qos: 0 | 1 | 2;
  /** The broker had kept it for new subscribers. */
  readonly retain: boolean;
  /** It has been sent before and not been acknowledged; it may be in the stream already, or not. */
  readonly dup: boolean;
  /** MQTT 5 only: `userProperties`, `contentType`, `responseTopic`, `correlationData`, … */
  readonly properties: NonNullable<IPublishPacket['properties']>;
}

export type PayloadFormat = 'json' | 'string' | 'bytes';

/** A payload as its declared format, or, if it is not of that format, as text or bytes with what is wrong with it. */
export type Payload =
  | { readonly data: unknown; readonly malformed?: undefined }
  | { readonly data: string | Buffer; readonly malformed: Error };

export function readPayload(payload: Buffer, format: PayloadFormat, largeIntegers: LargeIntegers): Payload {
  if (format === 'bytes') return { data: payload };
  if (!isUtf8(payload)) return { data: payload, malformed: new Error('it is no UTF-8') };
  const text = payload.toString('utf8');
  if (format === 'string') return { data: text };
  try {
    return { data: readJson(text, largeIntegers) };
  } catch (error) {
    return { data: text, malformed: asError(error) };
  }
}

/** Names that say what the broker said: never what a publisher put into a property of that name. */
const FACTS = ['topic', 'retain', 'dup'];

/** What is kept beside the data. */
export function headersOf({ topic, retain, dup, properties }: MqttMessage): Readonly<Record<string, string>> {
  const { userProperties, contentType, responseTopic, correlationData } = properties;
  const headers = userProperties === undefined ? {} : ownHeaders(userProperties);
  headers['topic'] = clean(topic);
  if (retain) headers['retain'] = 'true';
  if (dup) headers['dup'] = 'true';
  if (contentType !== undefined) headers['contentType'] = clean(contentType);
  if (responseTopic !== undefined) headers['responseTopic'] = clean(responseTopic);
  if (correlationData !== undefined) headers['correlationData'] = correlationData.toString('base64');
  return headers;
}

/** What the publisher has added. A property that came several times is a JSON array. */
function ownHeaders(properties: Readonly<Record<string, string | string[]>>): Record<string, string> {
  const own = Object.entries(properties).filter(([name]) => !FACTS.includes(name));
  return Object.fromEntries(own.map(([name, value]) => [clean(name), clean(textOfValues([value].flat()) ?? '')]));
}

/** MQTT forbids NUL and not every broker looks; stores can't keep it. */
function clean(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '') : text;
}
