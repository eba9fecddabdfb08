import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { messageOf, stackOf } from '../errors/error-text.js';
import type { Message } from '../windows/message.js';
import { Window } from '../windows/window.js';
import type { Rejection } from './executor.interface.js';
import type { ReceivedTask } from './task-codec.js';

/** A window in a worker. */
export class RemoteWindow extends Window {
  readonly id: string;
  readonly stream: string;
  readonly group: string;
  readonly partition: number;
  readonly data: readonly unknown[];
  readonly messages: readonly Message[];
  readonly start?: Date;
  readonly end?: Date;
  readonly part?: number;
  readonly late: boolean;
  readonly key?: string;
  readonly partial: boolean;
  readonly revision: number;
  readonly attempt: number;
  readonly split?: { readonly of: string; readonly from: number; readonly to: number };
  private readonly reasons = new Map<string, unknown>();

  constructor(
    { header, messages }: ReceivedTask,
    readonly signal: AbortSignal,
    readonly closing: AbortSignal,
  ) {
    super();
    const { id, stream, group, partition = 0, start, end, part, late, attempt, split } = header;
    const { key, partial = false, revision = 0 } = header;
    this.id = id;
    this.stream = stream;
    this.group = group;
    this.partition = partition;
    this.messages = Object.freeze([...messages]);
    this.data = Object.freeze(messages.map(({ data }) => data));
    if (start) this.start = start;
    if (end) this.end = end;
    if (part !== undefined) this.part = part;
    this.late = late;
    if (key !== undefined) this.key = key;
    this.partial = partial;
    this.revision = revision;
    this.attempt = attempt;
    if (split) this.split = split;
  }

  /** Not part of a window's own properties, which a handler may print or return. */
  static rejectionsOf({ reasons }: RemoteWindow): readonly Rejection[] {
    return [...reasons].map(([id, reason]) => {
      const stack = stackOf(reason);
      return { id, error: messageOf(reason), ...(stack !== undefined && { stack }) };
    });
  }

  reject(message: { readonly id: string }, reason: unknown): void {
    if (!this.messages.some(({ id }) => id === message?.id)) {
      throw new MinibatchError(
        ErrorCode.InvalidOptions,
        `reject: message ${message?.id} is not in window ${this.id}; allowed: one of window.messages`,
      );
    }
    this.reasons.set(message.id, reason);
  }
}
