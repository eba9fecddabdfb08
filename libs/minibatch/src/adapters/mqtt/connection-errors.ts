import { isA, propertyOf } from '../../errors/error-text.js';
import { MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import type { ResolvedConnection } from './mqtt-connection.options.js';

type Place = Pick<ResolvedConnection, 'where' | 'code' | 'address' | 'options'>;

// `details.reason` of the errors: UNREACHABLE: down, a wrong name, a certificate that is not trusted; REFUSED: the
// broker said no, with MQTT's `details.reasonCode`; LOST: the connection broke; CLOSED, ABORTED: from this side.

/** The connection did not come about. */
export function notConnected(place: Place, cause: unknown): MinibatchError {
  const { where, code, address } = place;
  const reasonCode = reasonCodeOf(cause);
  if (reasonCode !== undefined) {
    const message = `${where}: ${address} refused the connection: ${messageOf(cause)} (${reasonCode})${hintOf(reasonCode)}`;
    return new MinibatchError(code, message, { cause, details: { reason: 'REFUSED', reasonCode } });
  }
  const message = `${where}: can't connect to ${address}: ${textOf(cause)}`;
  return new MinibatchError(code, message, { cause, details: { reason: 'UNREACHABLE' } });
}

/** The connection broke. @param reasonCode what the broker said before, in MQTT 5 */
export function connectionLost(place: Place, cause: unknown, reasonCode: number | undefined): MinibatchError {
  const { where, code, address, options } = place;
  const silent = cause === undefined && options.clientId !== undefined;
  const guess = silent ? '. If this comes again and again, look whether another process uses the same clientId' : '';
  const said =
    reasonCode === undefined ? guess : `: the broker ended it with reason ${reasonCode}${hintOf(reasonCode)}`;
  const because = cause === undefined ? said : `${said}: ${textOf(cause)}`;
  const details = { reason: 'LOST', ...(reasonCode === undefined ? {} : { reasonCode }) };
  return new MinibatchError(code, `${where}: the connection to ${address} was lost${because}`, { cause, details });
}

/** By this side. */
export function connectionClosed({ where, code, address }: Place): MinibatchError {
  return new MinibatchError(code, `${where}: the connection to ${address} is closed`, {
    details: { reason: 'CLOSED' },
  });
}

/** What was being done when the signal aborted. */
export function connectionAborted({ where, code }: Place, what: string): MinibatchError {
  return new MinibatchError(code, `${where}: ${what} was given up: the signal aborted`, {
    details: { reason: 'ABORTED' },
  });
}

export function reasonCodeOf(error: unknown): number | undefined {
  const code = isA(error, Error) ? propertyOf(error, 'code') : undefined;
  return typeof code === 'number' ? code : undefined;
}

/** A failed connection to several addresses has an empty message. */
function textOf(error: unknown): string {
  const errors = isA(error, AggregateError) ? propertyOf(error, 'errors') : undefined;
  return Array.isArray(errors) ? errors.map((each) => messageOf(each)).join('; ') : messageOf(error);
}

/** What to do about a reason of a CONNACK (3.1.1 and 5) or a DISCONNECT. */
function hintOf(reasonCode: number): string {
  switch (reasonCode) {
    case 1:
    case 132:
      return '. Try protocolVersion: 4, which is MQTT 3.1.1';
    case 2:
    case 133:
      return '. The broker does not like the clientId';
    case 4:
    case 5:
    case 134:
    case 135:
    case 140:
      return '. Check user and password (clientOptions.username and .password, or in the URL) and what the broker allows them';
    case 142:
      return '. Another client has connected with the same clientId: each process needs one of its own, and a shared subscription ($share/<group>/<topic>) to share the messages';
    case 147:
      return '. More messages were on their way than it takes';
    case 149:
      return '. A packet was larger than it takes';
    default:
      return '';
  }
}
