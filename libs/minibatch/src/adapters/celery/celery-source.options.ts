import type { ConnectionOptions } from 'node:tls';
import { checkBoolean, checkInteger, checkName, checkOptions, invalidOption } from '../../common/checks.js';
import { checkPolicy, type MalformedPolicy, type UnstorablePolicy } from '../policies.js';
import { type Broker, parseBrokerUrl } from './broker-url.js';

/** What Celery itself sends about tasks; an application may send events of its own. */
export type CeleryEventType =
  | 'task-sent'
  | 'task-received'
  | 'task-started'
  | 'task-succeeded'
  | 'task-failed'
  | 'task-rejected'
  | 'task-revoked'
  | 'task-retried'
  | `task-${string}`;

export interface CeleryEventSourceOptions {
  /**
   * The broker's URL, as Celery has it: `redis://:password@host:6379/0`, `rediss://…` (TLS; `?ssl_cert_reqs=none` is respected),
   * `amqp://user:password@host:5672/vhost`, `amqps://…`. Redis needs the package `ioredis`, RabbitMQ the package `amqplib`.
   */
  readonly url: string;
  /**
   * Which events become messages; `'*'`: all. Other than task events (`worker-online`, …) only with `raw`.
   *
   * @default ['task-succeeded', 'task-failed']
   */
  readonly events?: '*' | readonly (CeleryEventType | `${string}-${string}`)[];
  /** True: a message is the event as Celery sent it. False: a `CeleryTaskEvent`. @default false */
  readonly raw?: boolean;
  /**
   * RabbitMQ only: events gather in this durable queue while the application is away. An existing one is used as it is; otherwise it
   * is created as a quorum queue with a single active consumer. Delete it when it is no longer read: it fills until then.
   *
   * @default an exclusive queue, which is gone with the connection: events that are sent while the application is away are lost
   */
  readonly queue?: string;
  /** RabbitMQ only: bodies that may be in flight to the stream at the same time; one holds up to 24 events. @default 500 */
  readonly prefetch?: number;
  /** Redis only: events that wait in memory for the stream; what exceeds that is dropped, counted and logged. @default 100000 */
  readonly maxPending?: number;
  /**
   * Tasks whose name and arguments are remembered until they end: an event of the end does not carry them. About 1 kB each.
   *
   * @default 10000
   */
  readonly rememberTasks?: number;
  /**
   * A body, or a part of one, that is not an event. It is counted and logged.
   *
   * - `'keep'`: it is appended as text, or as bytes if it is not UTF-8, without key, headers and dedupe id
   * - `'skip'`: it is left out (and so acknowledged)
   * - a function gets the same and returns what is appended in its place; undefined leaves it out
   *
   * @default 'skip'
   */
  readonly malformed?: MalformedPolicy<string | Buffer>;
  /**
   * An event that the stream cannot store, because it is too large or holds what no database stores; or a body that `malformed` throws
   * for. See {@link UnstorablePolicy}. A function gets the message: a `CeleryTaskEvent`, with `raw` a `CeleryEvent`.
   *
   * @default 'skip'
   */
  readonly unstorable?: UnstorablePolicy<unknown>;
  /** As Celery's setting `event_exchange`. @default 'celeryev' */
  readonly exchange?: string;
  /** Redis only: as Celery's `broker_transport_options['global_keyprefix']`. @default '' */
  readonly keyPrefix?: string;
  /** For `rediss://` and `amqps://`: `ca`, `cert`, `key`, `servername`, … as Node takes them. @default {} */
  readonly tls?: ConnectionOptions;
}

/** All options are set. */
export interface ResolvedCeleryOptions {
  readonly where: string;
  readonly broker: Broker;
  /** Does an event of this type become a message? */
  readonly wanted: (type: string) => boolean;
  /** First parts of the types that have to be listened to; undefined: all. */
  readonly families: readonly string[] | undefined;
  readonly raw: boolean;
  readonly queue: string | undefined;
  readonly prefetch: number;
  readonly maxPending: number;
  readonly rememberTasks: number;
  readonly malformed: MalformedPolicy<string | Buffer>;
  readonly unstorable: UnstorablePolicy<unknown>;
  readonly exchange: string;
  readonly keyPrefix: string;
  readonly tls: ConnectionOptions;
}

const KEYS = [
  'url',
  'events',
  'raw',
  'queue',
  'prefetch',
  'maxPending',
  'rememberTasks',
  'malformed',
  'unstorable',
  'exchange',
  'keyPrefix',
  'tls',
] as const satisfies readonly (keyof CeleryEventSourceOptions)[];

const ONLY_REDIS = ['maxPending', 'keyPrefix'] as const;
const ONLY_RABBITMQ = ['queue', 'prefetch'] as const;
const DEFAULT_EVENTS: readonly CeleryEventType[] = ['task-succeeded', 'task-failed'];
/** RabbitMQ counts in 16 bits. */
const MOST_PREFETCH = 65_535;

/** Validates the options and fills in the defaults. @throws MinibatchError `InvalidOptions` */
export function resolveCelery(where: string, options: CeleryEventSourceOptions | undefined): ResolvedCeleryOptions {
  checkOptions(where, options, KEYS, "{ url: 'redis://…' }");
  const broker = parseBrokerUrl(where, options.url);
  refuseOthers(where, options, broker);
  const raw = checkBoolean(where, 'raw', options.raw ?? false);
  const events = checkEvents(where, options.events ?? DEFAULT_EVENTS, raw);
  const prefetch = checkInteger(where, 'prefetch', options.prefetch ?? 500, 1);
  if (prefetch > MOST_PREFETCH) throw invalidOption(where, 'prefetch', prefetch, `at most ${MOST_PREFETCH}`);
  return {
    where,
    broker,
    wanted: wantedOf(events, raw),
    families: familiesOf(events, raw),
    raw,
    queue: options.queue === undefined ? undefined : checkName(where, 'queue', options.queue),
    prefetch,
    maxPending: checkInteger(where, 'maxPending', options.maxPending ?? 100_000, 1),
    rememberTasks: checkInteger(where, 'rememberTasks', options.rememberTasks ?? 10_000, 0),
    malformed: checkPolicy<MalformedPolicy<string | Buffer>>(where, 'malformed', options.malformed ?? 'skip', [
      'keep',
      'skip',
    ]),
    unstorable: checkPolicy<UnstorablePolicy<unknown>>(where, 'unstorable', options.unstorable ?? 'skip', [
      'skip',
      'fail',
    ]),
    exchange: checkName(where, 'exchange', options.exchange ?? 'celeryev'),
    keyPrefix: options.keyPrefix ? checkName(where, 'keyPrefix', options.keyPrefix) : '',
    tls: checkTls(where, options.tls, broker),
  };
}

/** An option of the other broker would be ignored in silence. */
function refuseOthers(where: string, options: CeleryEventSourceOptions, broker: Broker): void {
  const [others, needs] = broker.kind === 'redis' ? [ONLY_RABBITMQ, 'RabbitMQ'] : [ONLY_REDIS, 'Redis'];
  for (const option of others) {
    if (options[option] === undefined) continue;
    throw invalidOption(where, option, options[option], `nothing here: it needs ${needs}, and url is ${broker.label}`);
  }
}

function checkEvents(where: string, given: unknown, raw: boolean): '*' | readonly string[] {
  if (given === '*') return given;
  const pattern = raw ? /^[a-z][a-z0-9]*-./ : /^task-./;
  const isList = Array.isArray(given) && given.length > 0;
  if (isList && given.every((type): type is string => typeof type === 'string' && pattern.test(type))) return given;
  const others = raw ? "'worker-online', …" : 'others only with raw: true';
  throw invalidOption(
    where,
    'events',
    given,
    `'*', or a list of 'task-succeeded', 'task-failed', 'task-retried', … (${others})`,
  );
}

function wantedOf(events: '*' | readonly string[], raw: boolean): (type: string) => boolean {
  if (events === '*') return raw ? () => true : (type) => type.startsWith('task-');
  const types = new Set(events);
  return (type) => types.has(type);
}

function familiesOf(events: '*' | readonly string[], raw: boolean): readonly string[] | undefined {
  if (!raw) return ['task'];
  return events === '*' ? undefined : [...new Set(events.map((type) => type.slice(0, type.indexOf('-'))))];
}

function checkTls(where: string, given: ConnectionOptions | undefined, broker: Broker): ConnectionOptions {
  if (given === undefined) return {};
  if (typeof given !== 'object' || given === null) throw invalidOption(where, 'tls', given, 'options of node:tls');
  if (!broker.tls) {
    throw invalidOption(where, 'tls', given, `nothing here: url is ${broker.label}, and rediss:// or amqps:// use TLS`);
  }
  return given;
}
