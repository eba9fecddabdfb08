import { FailureReason } from '../failure-reason.js';
import { type ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/** Says what failed, where, and what to do. The package's own errors stay as they are. */
export function kafkaError(where: string, code: ErrorCode, doing: string, error: unknown): MinibatchError {
  if (error instanceof MinibatchError) return error;
  const hint = hintFor(error);
  return new MinibatchError(code, `${where}: ${doing}: ${messageOf(error)}${hint && `. ${hint}`}`, {
    cause: error,
    details: { type: typeOf(error), ...reasonOf(error) },
  });
}

/** Kafka's own name of what it answered; undefined if it gave no answer. */
export function typeOf(error: unknown): string | undefined {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if ('type' in at && typeof at.type === 'string') return at.type;
  }
  return undefined;
}

/** kafkajs wraps an error in the one that says that it has given up. */
function isOneOf(error: unknown, names: readonly string[]): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause) if (names.includes(at.name)) return true;
  return false;
}

const NO_CONNECTION = [
  'KafkaJSConnectionError',
  'KafkaJSConnectionClosedError',
  'KafkaJSBrokerNotFound',
  'KafkaJSRequestTimeoutError',
];

const NO_RIGHTS = ['TOPIC_AUTHORIZATION_FAILED', 'GROUP_AUTHORIZATION_FAILED', 'CLUSTER_AUTHORIZATION_FAILED'];

function reasonOf(error: unknown): { readonly reason?: FailureReason } {
  const type = typeOf(error) ?? '';
  if (isOneOf(error, ['KafkaJSSASLAuthenticationError']) || NO_RIGHTS.includes(type)) {
    return { reason: FailureReason.Unauthorized };
  }
  if (isOneOf(error, NO_CONNECTION)) return { reason: FailureReason.Unreachable };
  if (type === 'UNKNOWN_TOPIC_OR_PARTITION') return { reason: FailureReason.Declaration };
  return type === '' ? {} : { reason: FailureReason.Refused };
}

function hintFor(error: unknown): string {
  if (isOneOf(error, ['KafkaJSSASLAuthenticationError'])) return 'Check the user name and the password in sasl';
  switch (reasonOf(error).reason) {
    case FailureReason.Unreachable:
      return 'Check that the brokers run, and that brokers, ssl and sasl are right';
    case FailureReason.Declaration:
      return 'Create the topic, or let the client create it with allowAutoTopicCreation: true';
    case FailureReason.Unauthorized:
      return 'The user lacks the permission: check the ACLs';
    default:
      return '';
  }
}
