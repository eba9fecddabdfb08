import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import type { ConsumerKey, StoredMessage, WindowRecord } from '../storage/stream-store.interface.js';
import type { Message } from '../windows/message.js';
import { Window } from '../windows/window.js';
import type { RowWindowFacts } from './engine.interface.js';

const NONE: ReadonlyMap<string, unknown> = new Map();
const ALL_FINE: readonly Undecodable[] = [];

/** A message whose bytes can't be decoded, and what the decoder says. */
export interface Undecodable {
  readonly message: StoredMessage;
  readonly error: unknown;
}

/** What a window's reader is told by; where there is no `closing`, `signal` says both. */
export interface WindowSignals {
  readonly signal: AbortSignal;
  readonly closing?: AbortSignal;
}

/**
 * A window as one reader sees it: the handler in one attempt, a sink, the strategy. Its messages are decoded anew when they are first
 * asked for, so that no reader sees what another one did to them.
 */
export class BatchWindow extends Window {
  readonly id: string;
  readonly stream: string;
  readonly group: string;
  readonly partition: number;
  readonly start?: Date;
  readonly end?: Date;
  readonly part?: number;
  readonly late: boolean;
  readonly key?: string;
  readonly partial: boolean;
  readonly revision: number;
  readonly attempt: number;
  readonly split?: { readonly of: string; readonly from: number; readonly to: number };
  private reasons: Map<string, unknown> | undefined;
  private lazyData: readonly unknown[] | undefined;
  private lazyMessages: readonly Message[] | undefined;
  private lazyShown: BatchWindow | undefined;

  constructor(
    private readonly consumer: ConsumerKey,
    private readonly record: WindowRecord,
    /** As the store has given them out. */
    readonly stored: readonly StoredMessage[],
    private readonly attemptSignal: WindowSignals,
    private readonly piece?: { readonly id: string; readonly from: number; readonly to: number },
    /** The handler's window, of which this one is a view: it knows what is rejected. */
    private readonly origin?: BatchWindow,
    /** Present if it is made of rows. */
    private readonly facts?: RowWindowFacts,
  ) {
    super();
    this.id = piece?.id ?? record.id;
    this.stream = consumer.stream;
    this.group = consumer.group;
    this.partition = consumer.partition;
    if (record.start) this.start = record.start;
    if (record.end) this.end = record.end;
    if (record.part !== undefined) this.part = record.part;
    if (piece) this.split = { of: record.id, from: piece.from, to: piece.to };
    this.late = record.late ?? false;
    if (facts?.key !== undefined) this.key = facts.key;
    this.partial = facts?.partial ?? false;
    this.revision = facts?.revision ?? 0;
    this.attempt = record.attempt;
  }

  /** Decodes the messages, all of them or none; those that can't be decoded, if there are any. */
  decode(): readonly Undecodable[] {
    const messages: Message[] = [];
    let undecodable: Undecodable[] | undefined;
    for (const message of this.stored) {
      try {
        messages.push(message.read());
      } catch (error) {
        (undecodable ??= []).push({ message, error });
      }
    }
    if (undecodable) return undecodable;
    this.lazyMessages = Object.freeze(messages);
    return ALL_FINE;
  }

  /** The same window for another reader, with its messages as they were appended. */
  view(signal = this.attemptSignal): BatchWindow {
    const { consumer, record, stored, piece, origin = this, facts } = this;
    return new BatchWindow(consumer, record, stored, signal, piece, origin, facts);
  }

  /** True: the strategy knows nothing of it. */
  get isOfRows(): boolean {
    return this.facts !== undefined;
  }

  /** What the strategy is shown of it, the same at each step. */
  get shown(): BatchWindow {
    return (this.lazyShown ??= this.view());
  }

  get signal(): AbortSignal {
    return this.attemptSignal.signal;
  }

  get closing(): AbortSignal {
    return this.attemptSignal.closing ?? this.attemptSignal.signal;
  }

  /** Reasons by message id. */
  get rejected(): ReadonlyMap<string, unknown> {
    return this.reasons ?? NONE;
  }

  get data(): readonly unknown[] {
    return (this.lazyData ??= Object.freeze(this.messages.map((message) => message.data)));
  }

  get messages(): readonly Message[] {
    return (this.lazyMessages ??= Object.freeze(this.stored.map((message) => message.read())));
  }

  reject(message: { readonly id: string }, reason: unknown): void {
    if (this.origin) return this.origin.reject(message, reason);
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
