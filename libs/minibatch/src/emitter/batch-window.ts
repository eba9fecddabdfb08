import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { ConsumerKey, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import type { Message } from '../windows/message.js';
import { Window } from '../windows/window.js';

const NONE: ReadonlyMap<string, unknown> = new Map();

/** The window a handler gets: one for each attempt. Lists are made when they are asked for. */
export class BatchWindow extends Window {
  readonly id: string;
  readonly stream: string;
  readonly group: string;
  readonly start?: Date;
  readonly end?: Date;
  readonly part?: number;
  readonly late: boolean;
  readonly attempt: number;
  readonly split?: { readonly of: string; readonly from: number; readonly to: number };
  private reasons: Map<string, unknown> | undefined;
  private lazyData: readonly unknown[] | undefined;
  private lazyMessages: readonly Message[] | undefined;

  constructor(
    key: ConsumerKey,
    record: WindowRecord,
    private readonly stored: readonly StoredMessage[],
    private readonly attemptSignal: { readonly signal: AbortSignal },
    part?: { readonly id: string; readonly from: number; readonly to: number },
  ) {
    super();
    this.id = part?.id ?? record.id;
    this.stream = key.stream;
    this.group = key.group;
    if (record.start) this.start = record.start;
    if (record.end) this.end = record.end;
    if (record.part !== undefined) this.part = record.part;
    if (part) this.split = { of: record.id, from: part.from, to: part.to };
    this.late = record.late ?? false;
    this.attempt = record.attempt;
  }

  get signal(): AbortSignal {
    return this.attemptSignal.signal;
  }

  /** Reasons by message id. */
  get rejected(): ReadonlyMap<string, unknown> {
    return this.reasons ?? NONE;
  }

  get data(): readonly unknown[] {
    return (this.lazyData ??= Object.freeze(this.stored.map((message) => message.data)));
  }

  get messages(): readonly Message[] {
    return (this.lazyMessages ??= Object.freeze(this.stored.map(publicMessage)));
  }

  reject(message: { readonly id: string }, reason: unknown): void {
    if (!this.stored.some(({ id }) => id === message?.id)) {
      throw new MinibatchError(
        ErrorCode.InvalidOptions,
        `reject: message ${message?.id} is not in window ${this.id}; allowed: one of window.messages`,
      );
    }
    this.reasons ??= new Map();
    this.reasons.set(message.id, reason);
  }
}

/** Without what only the engine needs. */
function publicMessage({ id, data, created, key, headers }: StoredMessage): Message {
  return { id, data, created, ...(key === undefined ? {} : { key }), ...(headers === undefined ? {} : { headers }) };
}
