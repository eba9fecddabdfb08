import { PERCENT_ENCODED, redactUrl } from '../../errors/redact.js';
import { checkDuration, checkInteger, checkKeys, invalidOption } from '../../common/checks.js';
import { MAX_RESULT_BYTES } from '../outcome-codec.js';

export interface BullmqOptions {
  /**
   * Where Redis is: `'redis://:password@host:6379/0'`, or the options or an instance of ioredis, whose options are taken. A cluster is
   * refused.
   */
  readonly connection: string | object;
  /** Of all keys in Redis. Emitters and workers must have the same one. @default 'bull', as BullMQ's */
  readonly prefix?: string;
  /**
   * A worker that has not renewed the lock of its job for this long counts as lost. It must be longer than a method ever blocks the event
   * loop of its worker. Emitters and workers must have the same one. Milliseconds, at least 500, or a string like `'10s'`. @default '10s'
   */
  readonly lock?: number | string;
  /** Windows of each consumer that one worker process runs at the same time. @default 1 */
  readonly concurrency?: number;
  /** Most bytes of a result; a larger one blocks the consumer with the code `ResultUnsendable`. @default 1 MiB */
  readonly maxResultBytes?: number;
}

export interface ResolvedBullmq {
  /** Options of ioredis, and `url`. */
  readonly connection: Readonly<Record<string, unknown>>;
  readonly prefix: string;
  readonly lock: number;
  readonly concurrency: number;
  readonly maxResultBytes: number;
}

const WHERE = 'bullmq';

/** @throws MinibatchError `InvalidOptions` */
export function resolveBullmq(options: BullmqOptions): ResolvedBullmq {
  checkKeys(WHERE, options, ['connection', 'prefix', 'lock', 'concurrency', 'maxResultBytes']);
  const { connection, prefix = 'bull', lock = 10_000, concurrency = 1, maxResultBytes = MAX_RESULT_BYTES } = options;
  return {
    connection: connectionOf(connection),
    prefix: prefixOf(prefix),
    lock: checkDuration(WHERE, 'lock', lock, {
      min: 500,
      because: 'a shorter one is lost with every pause of a worker',
    }),
    concurrency: checkInteger(WHERE, 'concurrency', concurrency, 1),
    maxResultBytes: checkInteger(WHERE, 'maxResultBytes', maxResultBytes, 1),
  };
}

function prefixOf(given: unknown): string {
  if (typeof given === 'string' && given !== '') return given;
  throw invalidOption(WHERE, 'prefix', given, 'a text that is not empty');
}

function connectionOf(given: unknown): Readonly<Record<string, unknown>> {
  if (typeof given === 'string' && /^rediss?:\/\//.test(given)) {
    if (URL.canParse(given)) return { url: given };
    // Node tells the whole URL.
    throw invalidOption(WHERE, 'connection', redactUrl(given), `a URL with ${PERCENT_ENCODED}`);
  }
  if (typeof given === 'object' && given !== null && !Array.isArray(given) && !isCluster(given)) {
    const { options } = given as { options?: unknown };
    const isInstance = 'duplicate' in given && typeof options === 'object' && options !== null;
    return { ...((isInstance ? options : given) as Record<string, unknown>) };
  }
  const allowed = "'redis://host:6379', the options or an instance of ioredis; not a cluster";
  throw invalidOption(WHERE, 'connection', typeof given === 'string' ? '…' : given, allowed);
}

function isCluster(given: object): boolean {
  return Reflect.get(given, 'isCluster') === true;
}
