import { ErrorCode, MinibatchError } from '../errors/minibatch.error.js';
import { checkBoolean, checkKeys, checkName } from '../common/checks.js';
import { type Clock, delay } from '../common/clock.js';
import { isDead, thisProcess } from '../common/process-identity.js';
import { consumersOf } from '../storage/partitions.js';
import type {
  ConsumerKey,
  LeaseOwner,
  LeaseState,
  StreamInfo,
  StreamStore,
} from '../storage/stream-store.interface.js';
import { knownGroup, knownStream } from './known-group.js';

export interface RemovalOptions {
  /** Removes it although a live process consumes it. @default false */
  readonly force?: boolean;
}

/** The default lease time of the module; milliseconds. */
const LEASE_TIME = 15_000;
/** Between reads of leases whose owners can't be checked; milliseconds. */
const LOOK_AGAIN = 500;

/** Removes streams and groups, unless a live process works on them. */
export class Removal {
  private readonly self = thisProcess();

  constructor(
    private readonly store: StreamStore,
    private readonly clock: Clock,
    /** Milliseconds after which a lease that is not renewed is up. */
    private readonly leaseTime: number = LEASE_TIME,
  ) {}

  /** @throws MinibatchError `UnknownStream`, `GroupInUse`, `InvalidOptions` */
  async dropStream(stream: string, options: RemovalOptions): Promise<void> {
    const where = `drop of '${stream}'`;
    const force = checkForce(where, options);
    const info = await knownStream(this.store, stream);
    if (!force) await this.refuseIfHeld(where, info, info.groups, (owner) => !this.isOwn(owner));
    await this.store.dropStream(stream);
  }

  /** @throws MinibatchError `UnknownStream`, `UnknownGroup`, `GroupInUse`, `InvalidOptions` */
  async removeGroup(stream: string, given: string, options: RemovalOptions): Promise<void> {
    const where = `removeGroup of '${stream}'`;
    const force = checkForce(where, options);
    const group = checkName(where, 'group', given);
    const info = await knownGroup(this.store, stream, group);
    if (!force) await this.refuseIfHeld(where, info, [group], () => true);
    await this.store.removeGroup(stream, group);
  }

  private async refuseIfHeld(
    where: string,
    info: StreamInfo,
    groups: readonly string[],
    counts: (owner: LeaseOwner) => boolean,
  ): Promise<void> {
    const held = await this.held(consumersOf(info, groups), counts);
    if (!held) return;
    const { group, owner } = held;
    const stream = info.name;
    throw new MinibatchError(
      ErrorCode.GroupInUse,
      `${where}: group '${group}' is consumed by process ${owner.pid} on ${owner.host}. Stop that consumer first, or pass { force: true }`,
      { details: { stream, group, host: owner.host, pid: owner.pid } },
    );
  }

  /**
   * A group whose lease is held by a live process. Whether a process on another host is alive can't be checked: as candidates do, this
   * watches whether the lease is still renewed, for one lease time.
   */
  private async held(
    keys: readonly ConsumerKey[],
    counts: (owner: LeaseOwner) => boolean,
  ): Promise<{ group: string; owner: LeaseOwner } | undefined> {
    const begun = this.clock.monotonic();
    const first = new Map<number, LeaseState>();
    for (;;) {
      const waited = this.clock.monotonic() - begun;
      let doubtful = false;
      for (const [index, state] of (await this.store.readLeases(keys)).entries()) {
        const group = keys[index]?.group ?? '';
        const { owner } = state;
        if (!owner || !counts(owner) || isDead(owner)) continue;
        const before = first.get(index) ?? state;
        first.set(index, before);
        const isRenewed = state.counter !== before.counter || state.fence !== before.fence;
        if (isRenewed || this.isHere(owner)) return { group, owner };
        if (waited < Math.max(this.leaseTime, state.holdTime ?? 0)) doubtful = true;
      }
      if (!doubtful) return undefined;
      await delay(this.clock, LOOK_AGAIN);
    }
  }

  private isOwn(owner: LeaseOwner): boolean {
    return this.isHere(owner) && owner.pid === this.self.pid && owner.startTime === this.self.startTime;
  }

  /** On this host and in this boot: a process that is not dead there is alive. */
  private isHere({ host, bootId }: LeaseOwner): boolean {
    return bootId !== '' && bootId === this.self.bootId && host === this.self.host;
  }
}

function checkForce(where: string, options: unknown): boolean {
  checkKeys(where, options, ['force']);
  const { force } = options as Record<keyof RemovalOptions, unknown>;
  return force === undefined ? false : checkBoolean(where, 'force', force);
}
