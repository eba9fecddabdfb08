import type { StringValue } from 'ms';
import { ErrorCode } from '../../errors/minibatch.error.js';
import { checkDuration, checkInteger, checkOptions, invalidOption } from '../../common/checks.js';
import { LARGE_INTEGERS, type LargeIntegers } from '../../common/json-reader.js';
import { checkFunction, checkOneOf, checkPolicy, type HoldingPolicy, type MalformedPolicy } from '../policies.js';
import {
  CONNECTION_KEYS,
  type MqttConnectionOptions,
  type ResolvedConnection,
  resolveConnection,
} from './mqtt-connection.options.js';
import type { MqttMessage, PayloadFormat } from './mqtt-message.js';
import { checkFilters } from './topics.js';

/** Which messages become messages of the stream, and how. @typeParam T the stream's messages */
export interface MqttSourceOptions<T = unknown> extends MqttConnectionOptions {
  /**
   * One or several topic filters: `'sensors/+/temperature'`, `'sensors/#'`; `'$share/<group>/sensors/#'` spreads the messages over all
   * sources with this group, in other processes too, each with a `clientId` of its own.
   */
  readonly topics: string | readonly string[];
  /**
   * The name under which the broker keeps the session: what was subscribed, and what came while nobody was connected. It must be
   * the same after a restart, or those messages stay in the old session; and no two processes may use it at a time, for the broker
   * ends the connection of the first. So it cannot be made up here: take a name for a single process, the host's or the
   * pod's stable name where there are replicas.
   */
  readonly clientId: string;
  /** 1: each message at least once. 0: those that come while the source is connected, none of them again. @default 1 */
  readonly qos?: 0 | 1;
  /**
   * How long the broker keeps the session, and what arrives meanwhile, while the source is not connected; at most 136 years, which the broker
   * takes for no limit. MQTT 5; in MQTT 3.1.1 only the broker's configuration ends a session. Milliseconds, or a string
   * like `'1 day'`. @default no limit
   */
  readonly sessionExpiry?: number | StringValue;
  /**
   * What the payload is: JSON, text in UTF-8, or anything (a `Buffer`).
   *
   * @default 'json'
   */
  readonly format?: PayloadFormat;
  /**
   * What to do with a payload that is not of its `format`:
   *
   * - `'keep'`: it is appended as a string, or as bytes if it is not UTF-8 either
   * - `'skip'`: it is acknowledged and left out; counted and logged
   * - a function: what it returns is appended; undefined leaves it out, as `'skip'` does
   *
   * @default 'keep'
   */
  readonly malformed?: MalformedPolicy<MqttMessage, T>;
  /**
   * With `format: 'json'`, integers beyond ±(2^53 − 1), which a number cannot hold exactly: `'bigint'` makes them bigints;
   * `'malformed'` makes the payload malformed; `'number'` rounds them. @default 'bigint'
   */
  readonly largeIntegers?: LargeIntegers;
  /**
   * A message that the stream cannot take: too large, nested too deep, with a key or a dedupe id that cannot be stored; or one for which
   * `key`, `dedupeId` or `malformed` throws. See {@link HoldingPolicy}. A message that is held back counts among those in flight; when half
   * of `maxInFlight` (MQTT 3.1.1: 10) are held, the source fails instead of stalling. One that is skipped is acknowledged, and so lost.
   *
   * @default 'hold'
   */
  readonly unstorable?: HoldingPolicy<MqttMessage>;
  /** The message's key. @default none */
  readonly key?: (message: MqttMessage) => string | undefined;
  /**
   * What tells two messages apart, if publishers put something into the data or the properties that does. MQTT has nothing: without
   * this, what is redelivered after a broken connection is in the stream twice. @default none
   */
  readonly dedupeId?: (message: MqttMessage) => string | undefined;
  /**
   * Messages that the broker may send before the first of them is acknowledged (MQTT 5: receive maximum). In MQTT 3.1.1 the broker
   * decides (mosquitto's `max_inflight_messages`: 20), up to this. @default 2000
   */
  readonly maxInFlight?: number;
  /** Bytes of payloads that are held in memory; one message more is taken. @default 16 MiB */
  readonly maxBytes?: number;
}

/** All options are set. */
export interface ResolvedSource {
  readonly where: string;
  readonly connection: ResolvedConnection;
  readonly topics: readonly string[];
  readonly clientId: string;
  readonly qos: 0 | 1;
  readonly format: PayloadFormat;
  readonly malformed: MalformedPolicy<MqttMessage>;
  readonly largeIntegers: LargeIntegers;
  readonly unstorable: HoldingPolicy<MqttMessage>;
  readonly key: ((message: MqttMessage) => string | undefined) | undefined;
  readonly dedupeId: ((message: MqttMessage) => string | undefined) | undefined;
  readonly maxInFlight: number;
  readonly maxBytes: number;
  /** Messages that are held back at most. */
  readonly maxHeld: number;
}

const KEYS = [
  'topics',
  'clientId',
  'qos',
  'sessionExpiry',
  'format',
  'malformed',
  'largeIntegers',
  'unstorable',
  'key',
  'dedupeId',
  'maxInFlight',
  'maxBytes',
] as const satisfies readonly (keyof MqttSourceOptions)[];

/** In MQTT 5 the highest number of seconds means no limit. */
const FOR_EVER = 0xffff_ffff;
/** The receive maximum goes over the wire as 16 bits. */
const MOST_IN_FLIGHT = 65_535;
/** Half of what mosquitto sends without an answer. */
const MOST_HELD_3_1_1 = 10;
/** While a thousand of them are written, as many as one write has, the next thousand comes. */
const MAX_IN_FLIGHT = 2000;
const MAX_BYTES = 16 * 1024 * 1024;

/** Validates the options and fills in the defaults. @throws MinibatchError `InvalidOptions` */
export function resolveSource<T>(where: string, options: MqttSourceOptions<T> | undefined): ResolvedSource {
  const example = "{ url: 'mqtt://…', clientId: '…', topics: '…' }";
  checkOptions(where, options, [...CONNECTION_KEYS, ...KEYS], example);
  const { malformed = 'keep', unstorable = 'hold', key, dedupeId } = options;
  const topics = checkFilters(where, options.topics);
  const clientId = checkClientId(where, options.clientId);
  const maxInFlight = checkInteger(where, 'maxInFlight', options.maxInFlight ?? MAX_IN_FLIGHT, 1);
  if (maxInFlight > MOST_IN_FLIGHT) {
    throw invalidOption(where, 'maxInFlight', maxInFlight, `a whole number of 1 to ${MOST_IN_FLIGHT}`);
  }
  checkPolicy<MalformedPolicy<MqttMessage, T>>(where, 'malformed', malformed, ['keep', 'skip']);
  checkPolicy<HoldingPolicy<MqttMessage>>(where, 'unstorable', unstorable, ['hold', 'skip', 'fail']);
  checkFunction(where, 'key', key);
  checkFunction(where, 'dedupeId', dedupeId);
  const connection = resolveConnection(where, ErrorCode.SourceFailed, options, {
    clientId,
    clean: false,
    properties: { sessionExpiryInterval: secondsOf(where, options), receiveMaximum: maxInFlight },
  });
  return {
    where,
    connection,
    topics,
    clientId,
    qos: checkOneOf(
      where,
      'qos',
      options.qos ?? 1,
      [0, 1],
      '; with 2 a message would be lost when this process dies before its append',
    ),
    format: checkOneOf(where, 'format', options.format ?? 'json', ['json', 'string', 'bytes']),
    malformed,
    largeIntegers: checkOneOf(where, 'largeIntegers', options.largeIntegers ?? 'bigint', LARGE_INTEGERS),
    unstorable,
    key,
    dedupeId,
    maxInFlight,
    maxBytes: checkInteger(where, 'maxBytes', options.maxBytes ?? MAX_BYTES, 1),
    maxHeld: connection.protocolVersion === 5 ? Math.ceil(maxInFlight / 2) : MOST_HELD_3_1_1,
  };
}

function checkClientId(where: string, given: unknown): string {
  if (typeof given === 'string' && given !== '' && !given.includes('\0')) return given;
  throw invalidOption(
    where,
    'clientId',
    given,
    'a name that is the same after a restart (the broker keeps messages under it) and that no other process uses (the broker ends the connection of the first)',
  );
}

function secondsOf(
  where: string,
  { sessionExpiry, protocolVersion }: Pick<MqttSourceOptions, 'sessionExpiry' | 'protocolVersion'>,
): number {
  if (sessionExpiry === undefined) return FOR_EVER;
  if (protocolVersion === 4) {
    throw invalidOption(
      where,
      'sessionExpiry',
      sessionExpiry,
      'none with protocolVersion 4: MQTT 3.1.1 has no such thing',
    );
  }
  const ms = checkDuration(where, 'sessionExpiry', sessionExpiry, {
    min: 1000,
    because: 'what comes while the source is not connected would be lost',
  });
  return Math.min(Math.ceil(ms / 1000), FOR_EVER);
}
