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

/** What came out of a body. A body holds one event, or a list of them: workers send those of tasks together. */
export interface DecodedBody {
  readonly events: readonly CeleryEvent[];
  /** Why what is no event is none. */
  readonly malformed: readonly string[];
}

/** A body as it lies in RabbitMQ. */
export function decodeBody(text: string, contentType: string | undefined): DecodedBody {
  if (contentType !== undefined && contentType !== 'application/json') {
    return refused(`its content type is '${contentType}': set Celery's event_serializer to 'json'`);
  }
  const parsed = parseJson(text);
  if (parsed === undefined) return refused('it is no JSON');
  const events: CeleryEvent[] = [];
  const malformed: string[] = [];
  for (const value of Array.isArray(parsed.value) ? (parsed.value as unknown[]) : [parsed.value]) {
    if (isEvent(value)) events.push(value);
    else malformed.push('it is no event: an object with a type, and with the uuid of its task if it is about one');
  }
  return { events, malformed };
}

/** A message as Redis publishes it: the body in an envelope. */
export function decodeEnvelope(text: string): DecodedBody {
  const parsed = parseJson(text);
  if (parsed === undefined) return refused('its envelope is no JSON');
  const envelope = parsed.value;
  if (!isObject(envelope) || typeof envelope['body'] !== 'string') return refused('it has no envelope with a body');
  const { body, properties } = envelope;
  const encoding = isObject(properties) ? properties['body_encoding'] : undefined;
  const contentType = envelope['content-type'];
  return decodeBody(
    encoding === 'base64' ? Buffer.from(body, 'base64').toString('utf8') : body,
    typeof contentType === 'string' ? contentType : undefined,
  );
}

function refused(reason: string): DecodedBody {
  return { events: [], malformed: [reason] };
}

function parseJson(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
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
