import { isUtf8 } from 'node:buffer';
import { messageOf } from '../../errors/error-text.js';
import { readPythonJson } from '../../common/json-reader.js';
import { writeJson } from '../../common/json-writer.js';

/** An event as Celery sends it. Further fields depend on `type`. */
export interface CeleryEvent {
  /** `task-succeeded`, `worker-online`, … */
  readonly type: string;
  /** The task's id; task events have it. */
  readonly uuid?: string;
  /** The worker or client that sent it. */
  readonly hostname?: string;
  readonly pid?: number;
  /** Hours. */
  readonly utcoffset?: number;
  /** Seconds since the epoch, by the sender's clock. */
  readonly timestamp?: number;
  /** Logical time. */
  readonly clock?: number;
  readonly [field: string]: unknown;
}

/** Something that is not an event. */
export interface MalformedBody {
  /** The body, or the part of it, as text; as bytes if it is not UTF-8. */
  readonly body: string | Buffer;
  readonly reason: string;
}

/** What came out of a body. A body holds one event, or a list of them: workers send those of tasks together. */
export interface DecodedBody {
  readonly events: readonly CeleryEvent[];
  /** What is not an event, and why. */
  readonly malformed: readonly MalformedBody[];
}

/** A body as RabbitMQ delivers it. */
export function decodeBody(body: string | Buffer, contentType: string | undefined): DecodedBody {
  if (typeof body !== 'string' && !isUtf8(body)) return refused(body, 'it is not UTF-8');
  const text = body.toString();
  if (contentType !== undefined && contentType !== 'application/json') {
    return refused(text, `its content type is '${contentType}': set Celery's event_serializer to 'json'`);
  }
  let parsed: unknown;
  try {
    parsed = readPythonJson(text);
  } catch (error) {
    return refused(text, `it is not JSON: ${messageOf(error)}`);
  }
  const events: CeleryEvent[] = [];
  const malformed: MalformedBody[] = [];
  const reason = 'it is not an event: an object with a type, and with the uuid of its task if it is about one';
  for (const value of Array.isArray(parsed) ? (parsed as unknown[]) : [parsed]) {
    if (isEvent(value)) events.push(value);
    else malformed.push({ body: writeJson(value) ?? '', reason });
  }
  return { events, malformed };
}

/** A message as Redis publishes it: the body in an envelope. */
export function decodeEnvelope(text: string): DecodedBody {
  let envelope: unknown;
  try {
    envelope = readPythonJson(text);
  } catch (error) {
    return refused(text, `its envelope is not JSON: ${messageOf(error)}`);
  }
  if (!isObject(envelope) || typeof envelope['body'] !== 'string') {
    return refused(text, 'it has no envelope with a body');
  }
  const { body, properties } = envelope;
  const encoding = isObject(properties) ? properties['body_encoding'] : undefined;
  const contentType = envelope['content-type'];
  return decodeBody(
    encoding === 'base64' ? Buffer.from(body, 'base64') : body,
    typeof contentType === 'string' ? contentType : undefined,
  );
}

function refused(body: string | Buffer, reason: string): DecodedBody {
  return { events: [], malformed: [{ body, reason }] };
}

function isEvent(value: unknown): value is CeleryEvent {
  if (!isObject(value)) return false;
  const { type, uuid } = value;
  if (typeof type !== 'string' || type === '') return false;
  return typeof uuid === 'string' || (uuid === undefined && !type.startsWith('task-'));
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
