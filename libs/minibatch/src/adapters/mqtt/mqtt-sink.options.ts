import { ErrorCode } from '../../errors/minibatch.error.js';
import { checkBoolean, checkInteger, checkName, checkOptions, invalidOption } from '../../common/checks.js';
import { bytesOf, writeJson } from '../../common/json-writer.js';
import type { Window } from '../../windows/window.js';
import { checkFunction } from '../policies.js';
import { refuseWindow } from '../returned-window.js';
import {
  CONNECTION_KEYS,
  type MqttConnectionOptions,
  type ResolvedConnection,
  resolveConnection,
} from './mqtt-connection.options.js';
import { wrongTopic } from './topics.js';

/** Where results are published, and how. @typeParam R one result; a handler returns it or an array of it */
export interface MqttSinkOptions<R = unknown> extends MqttConnectionOptions {
  /** The topic, or what makes it of a result. */
  readonly topic: string | ((result: R, window: Window) => string);
  /**
   * Makes the payload. @default strings and bytes as they are, anything else as JSON, with all digits of a bigint, `Long` or `Decimal128`,
   * and bytes within it in base64
   */
  readonly payload?: (result: R, window: Window) => string | Uint8Array;
  /** 1: the broker acknowledges each message. 2: exactly once as far as the broker. 0: nobody answers. @default 1 */
  readonly qos?: 0 | 1 | 2;
  /** The broker keeps the last message of a topic for new subscribers. @default false */
  readonly retain?: boolean;
  /** MQTT 5: user properties in addition to the message's id. @default none */
  readonly userProperties?: (result: R, window: Window) => Readonly<Record<string, string>>;
  /**
   * MQTT 5: name of the user property that holds the message's id: that of the window, with `:` and the position behind it for
   * elements of an array; false for none. @default 'minibatch-id'; false in MQTT 3.1.1, which has no properties
   */
  readonly idProperty?: string | false;
  /** The broker's name for the connection; no other process may use it. @default one that the client makes up */
  readonly clientId?: string;
  /** Messages on their way without an answer; a broker that takes less at a time (MQTT 5) gets less. @default 1000 */
  readonly maxInFlight?: number;
}

/** All options are set. */
export interface ResolvedSink {
  readonly where: string;
  readonly connection: ResolvedConnection;
  readonly topic: (result: unknown, window: Window) => string;
  readonly payload: (result: unknown, window: Window) => string | Uint8Array | undefined;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly userProperties: ((result: unknown, window: Window) => Readonly<Record<string, string>>) | undefined;
  readonly idProperty: string | false;
  readonly maxInFlight: number;
}

const KEYS = [
  'topic',
  'payload',
  'qos',
  'retain',
  'userProperties',
  'idProperty',
  'clientId',
  'maxInFlight',
] as const satisfies readonly (keyof MqttSinkOptions)[];

/** Validates the options and fills in the defaults. @throws MinibatchError `InvalidOptions` */
export function resolveSink<R>(where: string, options: MqttSinkOptions<R> | undefined): ResolvedSink {
  checkOptions(where, options, [...CONNECTION_KEYS, ...KEYS], "{ url: 'mqtt://…', topic: '…' }");
  // What the handler returns is the user's word.
  const { topic, payload, userProperties, clientId, ...given } = options as unknown as MqttSinkOptions;
  if (typeof topic !== 'function') {
    const wrong = wrongTopic(topic);
    if (wrong !== undefined)
      throw invalidOption(where, 'topic', topic, `a topic, or a function that makes it; ${wrong}`);
  }
  checkFunction(where, 'payload', payload);
  checkFunction(where, 'userProperties', userProperties);
  const qos: unknown = given.qos ?? 1;
  if (qos !== 0 && qos !== 1 && qos !== 2) throw invalidOption(where, 'qos', qos, '0, 1, 2');
  if (clientId !== undefined && (typeof clientId !== 'string' || clientId === '')) {
    throw invalidOption(where, 'clientId', clientId, 'a name that no other process uses, or none');
  }
  const own = { clean: true, ...(clientId === undefined ? {} : { clientId }) };
  const connection = resolveConnection(where, ErrorCode.SinkFailed, given, own);
  const hasProperties = connection.protocolVersion === 5;
  const idProperty = given.idProperty ?? (hasProperties && 'minibatch-id');
  for (const [option, asked] of Object.entries({ userProperties, idProperty })) {
    if (!asked || hasProperties) continue;
    throw invalidOption(where, option, asked, 'none with protocolVersion 4: MQTT 3.1.1 has no properties');
  }
  return {
    where,
    connection,
    topic: typeof topic === 'function' ? topic : () => topic,
    payload: payload ?? payloadOf,
    qos,
    retain: checkBoolean(where, 'retain', given.retain ?? false),
    userProperties,
    idProperty: idProperty === false ? false : checkName(where, 'idProperty', idProperty),
    maxInFlight: checkInteger(where, 'maxInFlight', given.maxInFlight ?? 1000, 1),
  };
}

/** Undefined of what JSON knows nothing of, as a function: the sink refuses it. */
function payloadOf(result: unknown): string | Uint8Array | undefined {
  refuseWindow(result);
  return typeof result === 'string' ? result : (bytesOf(result) ?? writeJson(result));
}
