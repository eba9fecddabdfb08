import { aborted } from '../../common/abort.js';
import type { Admin, Kafka } from 'kafkajs';
import { FailureReason } from '../failure-reason.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import { type Clock, delay } from '../../common/clock.js';

/** Topics that exist, and where. */
export interface FoundTopics {
  /** The cluster's id; empty if the brokers have none. */
  readonly cluster: string;
  readonly topics: readonly string[];
}

/**
 * The names of the topics that exist. Otherwise kafkajs would wait for a missing one until its retries are over, and silently for a pattern
 * that matches nothing.
 *
 * @throws MinibatchError `SourceFailed` that says which one is missing
 */
export async function findTopics(
  where: string,
  kafka: Kafka,
  topics: readonly (string | RegExp)[],
  mayCreate: boolean,
): Promise<FoundTopics> {
  const [existing, cluster] = await askAdmin(kafka, (admin) => Promise.all([admin.listTopics(), clusterIdOf(admin)]));
  const found = new Set<string>();
  for (const topic of topics) {
    const names = matching(topic, existing);
    if (names.length === 0 && typeof topic === 'string' && mayCreate) names.push(topic);
    if (names.length === 0) throw missing(where, topic);
    for (const name of names) found.add(name);
  }
  return { cluster, topics: [...found].toSorted() };
}

/** Resolves when topics match that did not when `known` was found, or when the signal aborts. */
export async function newTopics(
  kafka: Kafka,
  topics: readonly (string | RegExp)[],
  known: readonly string[],
  every: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const patterns = topics.filter((topic) => topic instanceof RegExp);
  while (patterns.length > 0 && !signal.aborted) {
    await delay(clock, every, signal);
    if (signal.aborted) return;
    // What fails is asked again: the consumer itself notices whether Kafka is reachable.
    const existing = await askAdmin(kafka, (admin) => admin.listTopics()).catch(() => []);
    if (patterns.some((pattern) => matching(pattern, existing).some((name) => !known.includes(name)))) return;
  }
  await aborted(signal);
}

async function askAdmin<R>(kafka: Kafka, question: (admin: Admin) => Promise<R>): Promise<R> {
  const admin = kafka.admin();
  try {
    await admin.connect();
    return await question(admin);
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
}

/** Servers that only speak Kafka's protocol may have none. */
async function clusterIdOf(admin: Admin): Promise<string> {
  const { clusterId } = (await admin.describeCluster()) as { clusterId?: string | null };
  return clusterId ?? '';
}

/** A pattern never means Kafka's own topics. */
function matching(topic: string | RegExp, existing: readonly string[]): string[] {
  if (typeof topic === 'string') return existing.filter((name) => name === topic);
  // Not by `test`, which continues from its last match if the pattern is global.
  return existing.filter((name) => !name.startsWith('__') && name.search(topic) !== -1);
}

function missing(where: string, topic: string | RegExp): MinibatchError {
  const what =
    typeof topic === 'string'
      ? `Kafka has no topic '${topic}': create it, correct its name`
      : `no topic of Kafka matches ${String(topic)}: create one, correct the pattern`;
  return new MinibatchError(
    ErrorCode.SourceFailed,
    `${where}: ${what}, or give the user the right to see it; the source keeps looking`,
    { details: { reason: FailureReason.Declaration, topic: String(topic) } },
  );
}
