import { show } from '../common/checks.js';
import { type Clock, delay } from '../common/clock.js';
import { isOfPipeline } from '../common/pipeline-streams.js';
import { isDead } from '../common/process-identity.js';
import { consumersOf } from '../storage/partitions.js';
import type {
  ConsumerKey,
  ConsumerStats,
  LeaseState,
  StreamInfo,
  StreamStore,
} from '../storage/stream-store.interface.js';

export interface UnservedGroup {
  readonly stream: string;
  readonly group: string;
  readonly pending: number;
}

/**
 * Groups for which messages wait and nobody works: nobody held the lease at either look, or nobody renewed it between them, and that
 * is a lease time. Groups that the application knows are left out: a consumer of its own may run elsewhere, or a little later.
 *
 * @param isKnown whether the application has a consumer for the group
 */
export async function unservedGroups(
  store: StreamStore,
  streams: readonly StreamInfo[],
  isKnown: (key: ConsumerKey) => boolean,
  pause: { readonly clock: Clock; readonly leaseTime: number; readonly signal: AbortSignal },
): Promise<readonly UnservedGroup[]> {
  const keys = streams
    .filter(({ paused }) => !paused)
    .flatMap((info) => consumersOf(info))
    .filter((key) => !isKnown(key));
  if (keys.length === 0) return [];
  const before = await store.readLeases(keys);
  const longest = Math.max(pause.leaseTime, ...before.map(({ holdTime = 0 }) => holdTime));
  await delay(pause.clock, longest, pause.signal);
  if (pause.signal.aborted) return [];
  const after = await store.readLeases(keys);
  const idle = keys.filter((_, index) => isIdle(before[index], after[index]));
  if (idle.length === 0) return [];
  const stats = await store.stats([...new Set(idle.map(({ stream }) => stream))]);
  return stats.flatMap(({ name, groups, consumers }) =>
    groups
      .map((group) => ({
        stream: name,
        group,
        pending: pendingOf(
          group,
          consumers,
          idle.filter((key) => key.stream === name),
        ),
      }))
      .filter(({ pending }) => pending > 0),
  );
}

/** What can be done about it, for log lines and health. */
export function unservedAdvice(stream: string, group: string): string {
  if (isOfPipeline(stream, group)) {
    return (
      `windows of the pipeline ${show(group)} have made them, and it has another name by now, or its step: run the earlier version until ` +
      `nothing waits, or name the pipeline's earlier name as replaces, @Pipeline('…', { replaces: ${show(group)} }), so that they are handled; ` +
      `to lose them, streams.removeGroup(${show(stream)}, ${show(group)})`
    );
  }
  return `start one, or remove the group by streams.removeGroup(${show(stream)}, ${show(group)})`;
}

/** In those partitions of the group that nobody works for. */
function pendingOf(group: string, consumers: readonly ConsumerStats[], idle: readonly ConsumerKey[]): number {
  return consumers
    .filter((each) => each.group === group)
    .filter(({ partition }) => idle.some((key) => key.group === group && key.partition === partition))
    .reduce((sum, { pending }) => sum + pending, 0);
}

function isIdle(before: LeaseState | undefined, after: LeaseState | undefined): boolean {
  if (!before || !after || after.missing) return false;
  if (after.owner === undefined || isDead(after.owner)) return before.owner === undefined || isDead(before.owner);
  return before.fence === after.fence && before.counter === after.counter;
}
