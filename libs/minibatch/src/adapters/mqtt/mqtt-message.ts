import { isUtf8 } from 'node:buffer';
import type { IPublishPacket } from 'mqtt';
import { messageOf } from '../../errors/error-text.js';
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
  /** It was sent before and not acknowledged, so it may already be in the stream. */
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
  if (!isUtf8(payload)) return { data: payload, malformed: new Error('it is not UTF-8') };
  const text = payload.toString('utf8');
  if (format === 'string') return { data: text };
  try {
    return { data: readJson(text, largeIntegers) };
  } catch (error) {
    return { data: text, malformed: new Error(`it is not JSON: ${messageOf(error)}`, { cause: error }) };
  }
}

/** Headers that a source adds, by what they hold. They replace the publisher's own of the same names. */
export const MESSAGE_HEADERS = {
  topic: 'mqtt-topic',
  /** `'true'`: the broker had kept the message for new subscribers. */
  retain: 'mqtt-retain',
  /** `'true'`: the broker sent the message before. */
  dup: 'mqtt-dup',
  contentType: 'mqtt-content-type',
  responseTopic: 'mqtt-response-topic',
  /** Base64. */
  correlationData: 'mqtt-correlation-data',
} as const;

const ADDED: readonly string[] = Object.values(MESSAGE_HEADERS);

/** The headers of the stream's message: the publisher's user properties, and those of the broker. */
export function headersOf({ topic, retain, dup, properties }: MqttMessage): Readonly<Record<string, string>> {
  const { userProperties, contentType, responseTopic, correlationData } = properties;
  const headers = userProperties === undefined ? {} : publisherHeaders(userProperties);
  headers[MESSAGE_HEADERS.topic] = clean(topic);
  if (retain) headers[MESSAGE_HEADERS.retain] = 'true';
  if (dup) headers[MESSAGE_HEADERS.dup] = 'true';
  if (contentType !== undefined) headers[MESSAGE_HEADERS.contentType] = clean(contentType);
  if (responseTopic !== undefined) headers[MESSAGE_HEADERS.responseTopic] = clean(responseTopic);
  if (correlationData !== undefined) headers[MESSAGE_HEADERS.correlationData] = correlationData.toString('base64');
  return headers;
}

/** A property that occurs several times becomes a JSON array. What the broker says is never a publisher's word. */
function publisherHeaders(properties: Readonly<Record<string, string | string[]>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(properties).flatMap(([name, value]) => {
      const header = clean(name);
      return ADDED.includes(header) ? [] : [[header, clean(textOfValues([value].flat()) ?? '')]];
    }),
  );
}

/** MQTT forbids NUL, but not every broker checks; stores cannot keep it. */
function clean(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '') : text;
}
