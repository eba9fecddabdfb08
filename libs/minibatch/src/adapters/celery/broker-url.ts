import { isAmbiguousUrl, PERCENT_ENCODED, redactUrl } from '../../errors/redact.js';
import { invalidOption, show } from '../../common/checks.js';

interface Address {
  readonly host: string;
  /** Undefined: the usual one of the broker. */
  readonly port: number | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly tls: boolean;
  /** For people: the URL without user and password. */
  readonly label: string;
}

export interface RedisBroker extends Address {
  readonly kind: 'redis';
  /** Part of the channels' names; pub/sub itself knows no databases. */
  readonly database: number;
  /** False: `ssl_cert_reqs` of the URL takes any certificate, as it does for Celery. */
  readonly verify: boolean;
}

export interface RabbitmqBroker extends Address {
  readonly kind: 'rabbitmq';
  readonly virtualHost: string;
  /** Seconds; undefined: ours. */
  readonly heartbeat: number | undefined;
}

export type Broker = RedisBroker | RabbitmqBroker;

const ALLOWED = "a broker's URL as Celery takes it: 'redis://…', 'rediss://…', 'amqp://…' or 'amqps://…'";

/** Reads a URL as Celery's own library (kombu) does. @throws MinibatchError `InvalidOptions`, without the password in it */
export function parseBrokerUrl(where: string, given: unknown): Broker {
  const url = typeof given === 'string' ? parse(given) : undefined;
  if (url === undefined) throw invalidOption(where, 'url', masked(given), ALLOWED);
  if (isAmbiguousUrl(given as string))
    throw invalidOption(where, 'url', masked(given), `${ALLOWED}, with ${PERCENT_ENCODED}`);
  const address = (tls: boolean): Address => ({
    host: decodeURIComponent(url.hostname).replace(/^\[|\]$/g, '') || 'localhost',
    port: url.port === '' ? undefined : Number(url.port),
    username: decodeURIComponent(url.username) || undefined,
    password: decodeURIComponent(url.password) || undefined,
    tls,
    label: masked(given),
  });
  switch (url.protocol) {
    case 'redis:':
    case 'rediss:':
      return redisBroker(where, url, address(url.protocol === 'rediss:'));
    case 'amqp:':
    case 'amqps:':
      return rabbitmqBroker(where, url, address(url.protocol === 'amqps:'));
    default:
      throw invalidOption(where, 'url', masked(given), ALLOWED);
  }
}

function parse(text: string): URL | undefined {
  try {
    const url = new URL(text);
    for (const part of [url.hostname, url.username, url.password, url.pathname]) decodeURIComponent(part);
    return url;
  } catch {
    return undefined;
  }
}

function redisBroker(where: string, url: URL, address: Address): RedisBroker {
  const { ssl_cert_reqs: certificates = 'required' } = parameters(where, url, ['ssl_cert_reqs']);
  const path = url.pathname.replace(/^\//, '');
  if (!/^\d*$/.test(path)) throw invalidOption(where, 'url', address.label, 'a number of a database after the host');
  const verify = !/^(cert_)?none$/i.test(certificates);
  return { kind: 'redis', ...address, database: Number(path), verify };
}

function rabbitmqBroker(where: string, url: URL, address: Address): RabbitmqBroker {
  const { heartbeat } = parameters(where, url, ['heartbeat']);
  if (heartbeat !== undefined && !/^\d+$/.test(heartbeat)) {
    throw invalidOption(where, 'url', address.label, 'a whole number of seconds as heartbeat');
  }
  return {
    kind: 'rabbitmq',
    ...address,
    // 'amqp://host', 'amqp://host/' and 'amqp://host//' all mean '/' to Celery.
    virtualHost: decodeURIComponent(url.pathname.replace(/^\//, '')) || '/',
    heartbeat: heartbeat === undefined ? undefined : Number(heartbeat),
  };
}

function parameters(where: string, url: URL, known: readonly string[]): Readonly<Partial<Record<string, string>>> {
  for (const name of url.searchParams.keys()) {
    if (known.includes(name)) continue;
    const allowed = `the parameter ${known.join(', ')}; what TLS needs is given by the option tls`;
    throw invalidOption(where, 'url', `…?${name}=…`, allowed);
  }
  return Object.fromEntries(url.searchParams);
}

/** Whatever was given, without what may be a password. */
function masked(given: unknown): string {
  return typeof given === 'string' ? redactUrl(given) : show(given);
}
