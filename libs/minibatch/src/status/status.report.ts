import { ConsumerState, type ConsumerStatus } from '../engine/engine.interface.js';
import { isDead } from '../common/process-identity.js';
import type { SourceStatus } from '../sources/source-runner.js';
import type { ConsumerStats, StreamStats } from '../storage/stream-store.interface.js';
import { readNote } from './note-reader.js';
import type { ConsumerReport, ErrorReport, SourceReport, StreamReport } from './status.types.js';

/** Waiting messages of a partition that are worth a mark. */
const FEWEST = 100;

/** What the store counted and what this process knows, joined by stream and group; by name. */
export function reportStreams(
  stats: readonly StreamStats[],
  consumers: readonly ConsumerStatus[],
  sources: readonly SourceStatus[],
): readonly StreamReport[] {
  const stored = new Map(stats.map((each) => [each.name, each]));
  const local = byStream(consumers, ({ key }) => key.stream);
  const feeding = byStream(sources, ({ stream }) => stream);
  const names = new Set([...stored.keys(), ...local.keys(), ...feeding.keys()]);
  return [...names]
    .sort()
    .map((name) => reportStream(name, stored.get(name), local.get(name) ?? [], feeding.get(name) ?? []));
}

function byStream<E>(all: readonly E[], streamOf: (each: E) => string): ReadonlyMap<string, readonly E[]> {
  const lists = new Map<string, E[]>();
  for (const each of all) {
    const list = lists.get(streamOf(each));
    if (list) list.push(each);
    else lists.set(streamOf(each), [each]);
  }
  return lists;
}

function reportStream(
  name: string,
  stats: StreamStats | undefined,
  consumers: readonly ConsumerStatus[],
  sources: readonly SourceStatus[],
): StreamReport {
  return {
    name,
    ...(stats ? { stored: storedStream(stats) } : {}),
    consumers: reportConsumers(stats?.consumers ?? [], consumers),
    sources: sources.map(reportSource),
  };
}

function storedStream(stats: StreamStats): StreamReport['stored'] {
  const { status, created, closed, paused, buffered, oldest, deadLetters, foreign, readElsewhere, partitions } = stats;
  return {
    status,
    created: created.toISOString(),
    ...(closed ? { closed: closed.toISOString() } : {}),
    paused,
    ...(partitions === undefined ? {} : { partitions }),
    buffered,
    ...(oldest ? { oldest: oldest.toISOString() } : {}),
    deadLetters,
    ...(foreign && { foreign }),
    ...(readElsewhere && { readElsewhere: readElsewhere.toISOString() }),
  };
}

function reportConsumers(
  stored: readonly ConsumerStats[],
  local: readonly ConsumerStatus[],
): readonly ConsumerReport[] {
  const rest = new Map(local.map((status) => [`${status.key.partition}\0${status.key.group}`, status]));
  const reports = stored.map((stats) => {
    const id = `${stats.partition}\0${stats.group}`;
    const status = rest.get(id);
    rest.delete(id);
    return reportConsumer(stats, status, isHot(stats, stored));
  });
  return [...reports, ...[...rest.values()].map((status) => reportConsumer(undefined, status, false))];
}

/** More messages wait in it than twice its share of what waits for the group; a few say nothing. */
function isHot({ group, pending }: ConsumerStats, all: readonly ConsumerStats[]): boolean {
  const partitions = all.filter((each) => each.group === group);
  const sum = partitions.reduce((total, each) => total + each.pending, 0);
  return partitions.length > 1 && pending >= FEWEST && pending > (2 * sum) / partitions.length;
}

function reportConsumer(
  stats: ConsumerStats | undefined,
  status: ConsumerStatus | undefined,
  hot: boolean,
): ConsumerReport {
  const remote = stats && remoteConsumer(stats, status);
  return {
    group: stats?.group ?? status?.key.group ?? '',
    partition: stats?.partition ?? status?.key.partition ?? 0,
    ...(stats ? { stored: storedConsumer(stats, hot) } : {}),
    ...(remote ? { remote } : {}),
    ...(status ? { local: localConsumer(status) } : {}),
  };
}

/** Undefined if no other process works on it, or if that one has told nothing yet. */
function remoteConsumer({ lease, note }: ConsumerStats, local: ConsumerStatus | undefined): ConsumerReport['remote'] {
  const { owner, fence } = lease;
  if (!owner || isDead(owner) || note === undefined || worksHere(local)) return undefined;
  const told = readNote(note, fence);
  return told && { ...told, host: owner.host, pid: owner.pid };
}

function worksHere(local: ConsumerStatus | undefined): boolean {
  return local !== undefined && local.state !== ConsumerState.Standby && local.state !== ConsumerState.Stopped;
}

function storedConsumer(
  { lease, pending, openWindows, progress }: ConsumerStats,
  hot: boolean,
): ConsumerReport['stored'] {
  const { owner, heir } = lease;
  return {
    // A process that was killed has not given its lease back.
    ...(owner && !isDead(owner) ? { holder: { host: owner.host, pid: owner.pid } } : {}),
    ...(heir && !isDead(heir) ? { heir: { host: heir.host, pid: heir.pid } } : {}),
    pending,
    ...(hot ? { hot } : {}),
    openWindows,
    windows: progress.windows,
    messages: progress.messages,
  };
}

function localConsumer({
  key: _,
  heldBackUntil,
  setAside,
  blockedSinks,
  blockedExecutor,
  unsettled,
  lastError,
  lastCommit,
  heir,
  ...status
}: ConsumerStatus): ConsumerReport['local'] {
  return {
    ...status,
    ...(heldBackUntil ? { heldBackUntil: heldBackUntil.toISOString() } : {}),
    ...(setAside ? { setAside: { ...setAside, since: setAside.since.toISOString() } } : {}),
    ...(blockedSinks ? { blockedSinks: blockedSinks.map(datedSince) } : {}),
    ...(blockedExecutor ? { blockedExecutor: datedSince(blockedExecutor) } : {}),
    ...(unsettled ? { unsettled: unsettled.map(datedSince) } : {}),
    ...(lastError ? { lastError: reportError(lastError) } : {}),
    ...(lastCommit ? { lastCommit: lastCommit.toISOString() } : {}),
    ...(heir ? { heir: datedSince(heir) } : {}),
  };
}

function datedSince<E extends { readonly since: Date }>(each: E): Omit<E, 'since'> & { readonly since: string } {
  return { ...each, since: each.since.toISOString() };
}

function reportSource({ stream: _, lastError, ...status }: SourceStatus): SourceReport {
  return { ...status, ...(lastError ? { lastError: reportError(lastError) } : {}) };
}

export function reportError({
  at,
  code,
  message,
}: {
  readonly at: Date;
  readonly code: string;
  readonly message: string;
}): ErrorReport {
  return { at: at.toISOString(), code, message };
}
