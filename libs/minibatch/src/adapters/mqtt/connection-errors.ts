import { isA, propertyOf } from '../../errors/error-text.js';
import { MinibatchError, messageOf } from '../../errors/minibatch.error.js';
import { FailureReason } from '../failure-reason.js';
import type { ResolvedConnection } from './mqtt-connection.options.js';

type ConnectionPlace = Pick<ResolvedConnection, 'where' | 'code' | 'address' | 'options'>;

/** The broker could not be reached, or rejected the connection. */
export function notConnected(place: ConnectionPlace, cause: unknown): MinibatchError {
  const { where, code, address } = place;
  const reasonCode = reasonCodeOf(cause);
  if (reasonCode !== undefined) {
    const message = `${where}: ${address} rejected the connection: ${messageOf(cause)} (${reasonCode})${hintOf(reasonCode)}`;
    return new MinibatchError(code, message, {
      cause,
      details: {
        reason: UNAUTHORIZED.has(reasonCode) ? FailureReason.Unauthorized : FailureReason.Refused,
        reasonCode,
      },
    });
  }
  const message = `${where}: cannot connect to ${address}: ${textOf(cause)}`;
  return new MinibatchError(code, message, { cause, details: { reason: FailureReason.Unreachable } });
}

/** The connection broke. @param reasonCode what the broker said before, in MQTT 5 */
export function connectionLost(place: ConnectionPlace, cause: unknown, reasonCode: number | undefined): MinibatchError {
  const { where, code, address, options } = place;
  const silent = cause === undefined && options.clientId !== undefined;
  const guess = silent ? '. If this keeps happening, check whether another process uses the same clientId' : '';
  const said =
    reasonCode === undefined ? guess : `: the broker ended it with reason ${reasonCode}${hintOf(reasonCode)}`;
  const because = cause === undefined ? said : `${said}: ${textOf(cause)}`;
  const details = { reason: FailureReason.Lost, ...(reasonCode === undefined ? {} : { reasonCode }) };
  return new MinibatchError(code, `${where}: the connection to ${address} was lost${because}`, { cause, details });
}

/** It was closed from this side. */
export function connectionClosed({ where, code, address }: ConnectionPlace): MinibatchError {
  return new MinibatchError(code, `${where}: the connection to ${address} is closed`, {
    details: { reason: FailureReason.Closed },
  });
}

/** @param what was in progress when the signal aborted */
export function connectionAborted({ where, code }: ConnectionPlace, what: string): MinibatchError {
  return new MinibatchError(code, `${where}: ${what} was cancelled: the signal aborted`, {
    details: { reason: FailureReason.Aborted },
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

/** Of a CONNACK, in MQTT 3.1.1 and 5: bad credentials, not authorized, bad authentication method, banned. */
const UNAUTHORIZED: ReadonlySet<number> = new Set([4, 5, 134, 135, 138, 140]);

/** What to do about a reason of a CONNACK (3.1.1 and 5) or a DISCONNECT. */
function hintOf(reasonCode: number): string {
  switch (reasonCode) {
    case 1:
    case 132:
      return '. Try protocolVersion: 4, which is MQTT 3.1.1';
    case 2:
    case 133:
      return '. The broker rejected the clientId';
    case 4:
    case 5:
    case 134:
    case 135:
    case 140:
      return '. Check user and password (clientOptions.username and .password, or in the URL) and what the broker allows them';
    case 142:
      return '. Another client has connected with the same clientId: each process needs one of its own, and a shared subscription ($share/<group>/<topic>) to share the messages';
    case 147:
      return '. More messages were in flight than it accepts';
    case 149:
      return '. A packet was larger than it accepts';
    default:
      return '';
  }
}
