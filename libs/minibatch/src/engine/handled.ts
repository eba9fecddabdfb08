import { isA } from '../errors/error-text.js';
import { RejectMessages } from '../errors/minibatch.error.js';
import type { BatchWindow } from './batch-window.js';

/** What came of one run of a handler. All but the first two kinds come from executors alone. */
export type Handled =
  | { readonly kind: 'handled'; readonly result: unknown }
  /** `isLost`: the worker died, and the window may be what it died of. */
  | { readonly kind: 'failed'; readonly error: unknown; readonly isLost?: true }
  /** Messages that can't be decoded had to be left out. */
  | { readonly kind: 'again' }
  /** The result can't be sent back, and its messages are to be given up. */
  | { readonly kind: 'refused'; readonly error: unknown }
  | { readonly kind: 'given up' }
  /** The consumer is stopping, or the lease is lost. */
  | { readonly kind: 'void' };

/** The handler threw: messages that it rejects that way are no failure. */
export function failedWith(thrown: unknown, window: BatchWindow): Handled {
  if (!isA(thrown, RejectMessages)) return { kind: 'failed', error: thrown };
  try {
    for (const { message, reason } of thrown.rejected) window.reject(message, reason);
    return { kind: 'handled', result: undefined };
  } catch (error) {
    return { kind: 'failed', error };
  }
}
