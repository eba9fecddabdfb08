import type { IClientOptions, MqttClient } from 'mqtt';
import type { ErrorCode } from '../../errors/minibatch.error.js';
import { isAmbiguousUrl, PERCENT_ENCODED, redactUrl } from '../../errors/redact.js';
import { invalidOption } from '../../common/checks.js';

/** How the broker is reached. Either `url` or `createClient` must be given. */
export interface MqttConnectionOptions {
  /**
   * `mqtt://host:1883`, `mqtts://host:8883`, `ws://…` or `wss://…`. User and password may stand in it; certificates are
   * `clientOptions`. @default none: `createClient` connects
   */
  readonly url?: string;
  /**
   * Options of mqtt.js: `username`, `password`, `ca`, `cert`, `key`, `servername`, `keepalive`, `connectTimeout`, `will`, `properties`, …;
   * not those that the adapter sets itself: `clientId` and `protocolVersion` (options of their own), `clean`, `reconnectPeriod`,
   * `manualConnect` and the like. @default {}
   */
  readonly clientOptions?: IClientOptions;
  /**
   * Makes the client in place of `mqtt.connect(url, options)`. It must pass the options on, and return the client at once, not
   * when it is connected: messages of a persistent session come with the connection.
   *
   * @default none: mqtt.js connects to `url`
   *
   * @example
   * ```ts
   * createClient: (options) => connect({ ...options, servers: [{ host: 'a', port: 1883 }, { host: 'b', port: 1883 }] })
   * ```
   */
  readonly createClient?: (options: IClientOptions) => MqttClient;
  /** 5 is MQTT 5, 4 is MQTT 3.1.1 (this is how mqtt.js counts). @default 5 */
  readonly protocolVersion?: 4 | 5;
}

/** All that is needed to connect. */
export interface ResolvedConnection {
  readonly where: string;
  /** Of the errors: `SourceFailed` or `SinkFailed`. */
  readonly code: ErrorCode;
  /** The broker as it stands in messages, without user and password. */
  readonly address: string;
  readonly url: string | undefined;
  readonly createClient: ((options: IClientOptions) => MqttClient) | undefined;
  readonly options: IClientOptions;
  readonly protocolVersion: 4 | 5;
}

export const CONNECTION_KEYS = ['url', 'clientOptions', 'createClient', 'protocolVersion'] as const;

/** mqtt.js would take any other protocol for one of its own, silently. */
const PROTOCOLS = ['mqtt:', 'mqtts:', 'tcp:', 'tls:', 'ssl:', 'ws:', 'wss:'];

/** Delivery depends on them. */
const OWN = [
  'clientId',
  'protocolVersion',
  'protocolId',
  'clean',
  'reconnectPeriod',
  'reconnectOnConnackError',
  'manualConnect',
  'resubscribe',
  'customHandleAcks',
  'incomingStore',
  'outgoingStore',
  'messageIdProvider',
] as const;

const OWN_PROPERTIES = ['sessionExpiryInterval', 'receiveMaximum'] as const;

/**
 * @param own the client options that the adapter sets
 * @throws MinibatchError `InvalidOptions`
 */
export function resolveConnection(
  where: string,
  code: ErrorCode,
  connection: MqttConnectionOptions,
  own: IClientOptions,
): ResolvedConnection {
  const { url, clientOptions = {}, createClient, protocolVersion = 5 } = connection;
  if ((url === undefined) === (createClient === undefined)) {
    throw invalidOption(where, 'url', url, "either url ('mqtt://host:1883') or createClient");
  }
  const address = url === undefined ? 'the broker' : addressOf(where, url);
  if (createClient !== undefined && typeof createClient !== 'function') {
    throw invalidOption(where, 'createClient', createClient, 'a function that returns an MqttClient of mqtt.js');
  }
  // Callers in JavaScript give what they like.
  if (![4, 5].includes(protocolVersion)) {
    throw invalidOption(where, 'protocolVersion', protocolVersion, '5 (MQTT 5) or 4 (MQTT 3.1.1)');
  }
  checkClientOptions(where, clientOptions);
  const { properties, ...rest } = own;
  const options: IClientOptions = { ...clientOptions, ...rest, protocolVersion, reconnectPeriod: 0 };
  delete options.properties;
  if (protocolVersion === 5) options.properties = { ...clientOptions.properties, ...properties };
  return { where, code, address, url, createClient, options, protocolVersion };
}

function checkClientOptions(where: string, given: IClientOptions): void {
  if (typeof given !== 'object' || given === null) {
    throw invalidOption(where, 'clientOptions', given, 'an object with options of mqtt.js');
  }
  for (const key of OWN) {
    if (given[key] === undefined) continue;
    const allowed =
      key === 'clientId' || key === 'protocolVersion'
        ? `none: set ${key} next to clientOptions`
        : 'none: the adapter sets it';
    throw invalidOption(where, `clientOptions.${key}`, given[key], allowed);
  }
  for (const key of OWN_PROPERTIES) {
    if (given.properties?.[key] === undefined) continue;
    const allowed = `none: the adapter sets it (${key === 'receiveMaximum' ? 'maxInFlight' : 'sessionExpiry'})`;
    throw invalidOption(where, `clientOptions.properties.${key}`, given.properties[key], allowed);
  }
}

function addressOf(where: string, url: unknown): string {
  const parsed = typeof url === 'string' && URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !PROTOCOLS.includes(parsed.protocol) || parsed.host === '') {
    throw invalidOption(
      where,
      'url',
      typeof url === 'string' ? redactUrl(url) : url,
      "'mqtt://host:1883', 'mqtts://host:8883', 'ws://…' or 'wss://…'",
    );
  }
  if (isAmbiguousUrl(url as string))
    throw invalidOption(where, 'url', redactUrl(url as string), `a URL with ${PERCENT_ENCODED}`);
  return redactUrl(url as string);
}
