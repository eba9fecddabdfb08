import type { MqttClient } from 'mqtt';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { FailureReason } from '../failure-reason.js';
import type { ResolvedSource } from './mqtt-source.options.js';

/** MQTT 5: retained messages come with a new subscription, not each time it is made again. */
const RETAINED_ONCE = 1;

/**
 * Subscribes to the source's topics. @throws MinibatchError `SourceFailed` that names the topics which the broker refuses, or grants
 * with less than was asked for
 */
export async function subscribe(client: MqttClient, source: ResolvedSource): Promise<void> {
  const { topics, qos } = source;
  const granted = await grantedFor(client, source);
  const refused = topics.flatMap((topic, index) => {
    const code = granted[index] ?? 0x80;
    return code >= 0x80 ? [{ topic, reasonCode: code }] : [];
  });
  if (refused.length > 0) throw notGranted(source, refused);
  const lowered = topics.filter((_, index) => (granted[index] ?? 0) < qos);
  if (lowered.length === 0) return;
  throw new MinibatchError(
    ErrorCode.SourceFailed,
    `${source.where}: the broker grants '${lowered.join("', '")}' with QoS 0 only, so messages could be lost. Let it grant QoS 1, or set qos: 0`,
    { details: { reason: FailureReason.Refused, topics: lowered } },
  );
}

/** Takes back what a former start has subscribed: the session keeps it. Resolves when the broker has answered. */
export async function unsubscribe(client: MqttClient, topics: readonly string[]): Promise<void> {
  await client.unsubscribeAsync([...topics]);
}

function grantedFor(client: MqttClient, { topics, qos }: ResolvedSource): Promise<readonly number[]> {
  return new Promise((resolve, reject) => {
    client.subscribe([...topics], { qos, rh: RETAINED_ONCE }, (error, _, packet) => {
      // A refusal is an error too; what was refused is in the packet.
      if (packet) resolve(packet.granted as readonly number[]);
      else reject(error ?? new Error('the broker gave no answer'));
    });
  });
}

function notGranted(source: ResolvedSource, refused: readonly { topic: string; reasonCode: number }[]): MinibatchError {
  const list = refused.map(({ topic, reasonCode }) => `'${topic}' (${reasonCode}${meaningOf(reasonCode)})`).join(', ');
  return new MinibatchError(
    ErrorCode.SourceFailed,
    `${source.where}: the broker rejects the subscription of ${list}. Check what it allows the user to read, and the spelling`,
    {
      details: {
        reason: refused.every(isUnauthorized) ? FailureReason.Unauthorized : FailureReason.Refused,
        topics: refused.map(({ topic }) => topic),
        refused,
      },
    },
  );
}

function isUnauthorized({ reasonCode }: { readonly reasonCode: number }): boolean {
  return reasonCode === 135;
}

function meaningOf(reasonCode: number): string {
  switch (reasonCode) {
    case 135:
      return ': not authorized';
    case 143:
      return ': not a filter it accepts';
    case 151:
      return ': too many';
    case 158:
      return ': it has no shared subscriptions';
    case 162:
      return ': it has no wildcards';
    default:
      return '';
  }
}
