import type { SideNote } from '../flow/side-note.js';
import type { NewMessage } from '../storage/stream-store.interface.js';
import type { Message } from '../windows/message.js';

/** Headers by which tracing follows a message: https://www.w3.org/TR/trace-context/ and https://www.w3.org/TR/baggage/ */
const TRACE_HEADERS = ['traceparent', 'tracestate', 'baggage'];

/** An asynchronous function: what it is called in log lines, and whether anything works that it needs. */
export interface AsyncStep {
  readonly name: string;
}

/** What a message has become at an outlet. */
export type Output =
  /** @property fed the step with windows that it is for, and when it happened */
  | {
      readonly kind: 'message';
      readonly message: Omit<NewMessage, 'dedupeId'>;
      readonly fed?: { readonly step: string; readonly time: number };
    }
  /** @property sink its number among the sinks of the consumer */
  | { readonly kind: 'result'; readonly sink: number; readonly data: unknown }
  /** What goes into the windows of the stage. @property time milliseconds since the epoch */
  | {
      readonly kind: 'item';
      readonly key: string;
      readonly time: number;
      readonly data: unknown;
      readonly note?: SideNote;
      /** Absent: the message itself. */
      readonly origin?: Origin;
    }
  /** A side of these windows says how far it has come. */
  | { readonly kind: 'note'; readonly note: SideNote };

/** What a message of a pipeline's own stream says of the one that it was made of, which may have left its stream. */
export type Origin = Pick<Message, 'id' | 'key' | 'created' | 'headers'>;

interface Source extends Pick<Message, 'id' | 'key'> {
  readonly created: number;
  /** Those by which tracing follows a message. */
  readonly headers: Record<string, string> | undefined;
  readonly allHeaders: Record<string, string> | undefined;
}

/** One message on its way through the functions of a pipeline, once. */
export class MessageRun {
  readonly outputs: Output[] = [];
  /** What its new messages take in the commit. */
  bytes = 0;
  /** Asynchronous functions that have worked for it. */
  readonly passed = new Set<AsyncStep>();

  /** As the functions found it: what they do to the message they are shown does not change what new ones get of it. */
  source: Source;

  /** @param time when what is under way happened, if `timed` or a window has said so; milliseconds since the epoch */
  constructor(
    public message: Message,
    public time?: number,
    /** Of the source's stream. */
    readonly partition = 0,
  ) {
    this.source = sourceOf(message);
  }

  /** From here on, functions are shown another message in its place. */
  show(message: Message): void {
    this.message = message;
    this.source = sourceOf(message);
  }

  /** @throws AsyncFailure (by the promise) */
  async awaited<V>(step: AsyncStep, promise: PromiseLike<V>): Promise<V> {
    let value: V;
    try {
      value = await promise;
    } catch (error) {
      throw new AsyncFailure(step, error);
    }
    this.passed.add(step);
    return value;
  }
}

/** Takes the data that a message has become. Answers with nothing if it is through, so that what is synchronous costs no promises. */
export type Take = (data: unknown, run: MessageRun) => void | Promise<void>;

/** The promise of a function was rejected, which may be the fault of what it calls. Never leaves the pipeline. */
export class AsyncFailure extends Error {
  constructor(
    readonly step: AsyncStep,
    override readonly cause: unknown,
  ) {
    super(step.name);
  }
}

function sourceOf({ id, key, created, headers }: Message): Source {
  return {
    id,
    ...(key !== undefined && { key }),
    created: created.getTime(),
    headers: headers && traceOf(headers),
    allHeaders: headers && { ...headers },
  };
}

function traceOf(headers: Readonly<Record<string, string>>): Record<string, string> | undefined {
  let kept: Record<string, string> | undefined;
  for (const name of TRACE_HEADERS) {
    const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
    if (value !== undefined) (kept ??= {})[name] = value;
  }
  return kept;
}
