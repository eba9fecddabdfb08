import { AppendError, ErrorCode } from '../errors/minibatch.error.js';
import { checkInteger } from '../common/checks.js';
import type { NewMessage } from '../storage/stream-store.interface.js';
import { counted } from '../common/counted.js';

/** How much may wait for the store's answer in this process. */
export interface PendingLimits {
  readonly messages: number;
  readonly bytes: number;
}

export const DEFAULT_PENDING: PendingLimits = { messages: 100_000, bytes: 128 * 1024 * 1024 };

/** @throws MinibatchError `InvalidOptions` */
export function resolvePending(
  where: string,
  options: { readonly maxPendingAppends?: unknown; readonly maxPendingAppendBytes?: unknown },
): PendingLimits {
  const { maxPendingAppends, maxPendingAppendBytes } = options;
  const { messages, bytes } = DEFAULT_PENDING;
  return {
    messages: checkInteger(where, 'maxPendingAppends', maxPendingAppends ?? messages, 1),
    bytes: checkInteger(where, 'maxPendingAppendBytes', maxPendingAppendBytes ?? bytes, 1),
  };
}

/** Counts the messages that the store has not answered for, of all streams. */
export class PendingLimit {
  private messages = 0;
  private bytes = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly most: PendingLimits) {}

  /** A call of any size gets in while there is room for one message, so that no call is too large. */
  get hasRoom(): boolean {
    return this.messages < this.most.messages && this.bytes < this.most.bytes;
  }

  /** There is none, or others wait for it. */
  get isFull(): boolean {
    return !this.hasRoom || this.waiting.length > 0;
  }

  /** Calls `enter`, which is to add to the count, as soon as there is room; in the order of the calls. */
  wait(enter: () => void): void {
    this.waiting.push(enter);
  }

  add(messages: number, bytes: number): void {
    this.messages += messages;
    this.bytes += bytes;
  }

  remove(messages: number, bytes: number): void {
    this.messages -= messages;
    this.bytes -= bytes;
    while (this.hasRoom && this.waiting.length > 0) this.waiting.shift()?.();
  }

  /** Lets in all that wait. */
  open(): void {
    for (const enter of this.waiting.splice(0)) enter();
  }

  refusal(stream: string): AppendError {
    return new AppendError(
      ErrorCode.StreamFull,
      `append to '${stream}': already ${counted(this.messages, 'message')} of this process (${this.bytes} bytes) waiting for the store, the most that ` +
        'maxPendingAppends and maxPendingAppendBytes allow. Await appends before you make more, and see whether the store answers',
      'no',
      { details: { stream, pending: this.messages, pendingBytes: this.bytes, ...this.limits } },
    );
  }

  private get limits() {
    return { maxPendingAppends: this.most.messages, maxPendingAppendBytes: this.most.bytes };
  }
}

/** About how many bytes the message takes, in memory and on its way. */
export function bytesOf({ bytes = 0, key, headers, dedupeId }: NewMessage): number {
  let sum = bytes;
  if (key !== undefined) sum += Buffer.byteLength(key);
  if (dedupeId !== undefined) sum += dedupeId.length;
  for (const name in headers) sum += name.length + Buffer.byteLength(headers[name] ?? '');
  return sum;
}
