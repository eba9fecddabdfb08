import type { Sink, Window } from 'nestjs-minibatch';
import type { SumsByFile } from './sums.js';

/** What a consumer says of one window. */
export interface Report {
  /** The consumer. */
  readonly group: string;
  /** The time that the window stands for; time windows only. */
  readonly start?: Date;
  readonly end?: Date;
  readonly files: SumsByFile;
}

/**
 * Keeps the reports outside of the stream, one for each window id. After a crash a window may be redelivered: with the same
 * id, so its report replaces the one that is there.
 */
export abstract class Results implements Sink<Report> {
  abstract put(report: Report, window: Window): Promise<void>;
  abstract all(): Promise<readonly Report[]>;
}
