import { type ErrorCode, MinibatchError, messageOf } from '../../errors/minibatch.error.js';

/** What went wrong with Kafka, with whose it is and what to do. Errors of the package stay what they are. */
export function kafkaError(where: string, code: ErrorCode, doing: string, error: unknown): MinibatchError {
  if (error instanceof MinibatchError) return error;
  const hint = hintFor(error);
  return new MinibatchError(code, `${where}: ${doing}: ${messageOf(error)}${hint && `. ${hint}`}`, {
    cause: error,
    details: { type: typeOf(error) },
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

function hintFor(error: unknown): string {
  if (isOneOf(error, ['KafkaJSSASLAuthenticationError'])) return 'Look at the user name and the password in sasl';
  if (isOneOf(error, ['KafkaJSConnectionError', 'KafkaJSConnectionClosedError', 'KafkaJSBrokerNotFound'])) {
    return 'Look whether the brokers run, and whether brokers, ssl and sasl are right';
  }
  switch (typeOf(error)) {
    case 'UNKNOWN_TOPIC_OR_PARTITION':
      return 'Create the topic, or let the client do so by allowAutoTopicCreation: true';
    case 'TOPIC_AUTHORIZATION_FAILED':
    case 'GROUP_AUTHORIZATION_FAILED':
    case 'CLUSTER_AUTHORIZATION_FAILED':
      return 'The user has no right to it: ask whoever keeps the ACLs';
    default:
      return '';
  }
}
