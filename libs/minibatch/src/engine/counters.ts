import { codeOf, ErrorCode, messageOf } from '../errors/minibatch.error.js';

/** What a consumer has done in this process; one object for all its terms. */
export class ConsumerCounters {
  /** Windows that were taken to the handler. */
  begun = 0;
  committedWindows = 0;
  committedMessages = 0;
  failures = 0;
  lostWorkers = 0;
  sinkFailures = 0;
  /** Results that windows were committed without. */
  skippedSinks = 0;
  dropped = 0;
  expired = 0;
  deadLettered = 0;
  vanished = 0;
  damaged = 0;
  recovered = 0;
  lastCommit: Date | undefined;
  lastError: { at: Date; code: string; message: string } | undefined;

  failed(at: number, error: unknown, code: ErrorCode = ErrorCode.StoreUnavailable): void {
    this.lastError = {
      at: new Date(at),
      code: codeOf(error, code),
      message: messageOf(error),
    };
  }
}
