import { availableParallelism } from 'node:os';
import { pathToFileURL } from 'node:url';
import { isAbsolute } from 'node:path';
import { checkDuration, checkInteger, checkKeys, invalidOption } from '../../common/checks.js';
import { MAX_RESULT_BYTES } from '../outcome-codec.js';

export interface ThreadsOptions {
  /** The file that calls `runMinibatchWorker`: `new URL('./worker.js', import.meta.url)`, or an absolute path. */
  readonly worker: URL | string;
  /** Threads, each of which runs one window at a time. @default as many as the machine has processors */
  readonly threads?: number;
  /** Most bytes of a result; a larger one blocks the consumer with the code `ResultUnsendable`. @default 1 MiB */
  readonly maxResultBytes?: number;
  /**
   * How long a thread may take to load the file and boot its module. One that takes longer is ended, and windows wait until another one
   * succeeds. Milliseconds, or a string like `'30s'`. @default '30s'
   */
  readonly startTimeout?: number | string;
  /**
   * How long a method may go on after its `window.signal` has aborted. Then its thread is terminated, and a new one takes its place.
   * Milliseconds, or a string like `'5s'`. @default '5s'
   */
  readonly terminateAfter?: number | string;
  /** Most memory of JavaScript objects in each thread, in MiB (2 ** 20 bytes); one that needs more ends, and the process lives. @default Node's limit */
  readonly maxMemory?: number;
}

export interface ResolvedThreads {
  /** As URL of a file. */
  readonly worker: string;
  readonly threads: number;
  readonly maxResultBytes: number;
  readonly startTimeout: number;
  readonly terminateAfter: number;
  readonly maxMemory?: number;
}

const WHERE = 'threads';

/** @throws MinibatchError `InvalidOptions` */
export function resolveThreads(options: ThreadsOptions): ResolvedThreads {
  checkKeys(WHERE, options, ['worker', 'threads', 'maxResultBytes', 'startTimeout', 'terminateAfter', 'maxMemory']);
  const {
    worker,
    threads = availableParallelism(),
    maxResultBytes = MAX_RESULT_BYTES,
    startTimeout = 30_000,
    terminateAfter = 5_000,
    maxMemory,
  } = options;
  return {
    worker: fileOf(worker),
    threads: checkInteger(WHERE, 'threads', threads, 1),
    maxResultBytes: checkInteger(WHERE, 'maxResultBytes', maxResultBytes, 1),
    startTimeout: checkDuration(WHERE, 'startTimeout', startTimeout, { min: 1 }),
    terminateAfter: checkDuration(WHERE, 'terminateAfter', terminateAfter, { min: 0 }),
    ...(maxMemory === undefined ? {} : { maxMemory: checkInteger(WHERE, 'maxMemory', maxMemory, 1) }),
  };
}

function fileOf(given: unknown): string {
  if (given instanceof URL && given.protocol === 'file:') return given.href;
  if (typeof given === 'string' && given.startsWith('file:')) return given;
  if (typeof given === 'string' && isAbsolute(given)) return pathToFileURL(given).href;
  throw invalidOption(
    WHERE,
    'worker',
    given,
    "new URL('./worker.js', import.meta.url), or an absolute path such as require.resolve('./worker')",
  );
}
