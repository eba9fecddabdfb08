import type { Lease } from '../stream-store.interface.js';
import type { ClaimLocations } from './claim-locations.js';
import type { DecidedEffects } from './decided-effects.js';
import type { GroupListVersions } from './group-list-versions.js';
import type { MarkDelay } from './mark-delay.js';
import type { SharedReads } from './shared-reads.js';

/** What this process remembers of its consumers to save commands: it goes with their leases, or it would grow with every consumer there ever was. */
export class ConsumerMemory {
  constructor(
    private readonly locations: ClaimLocations,
    private readonly versions: GroupListVersions,
    private readonly markDelay: MarkDelay,
    private readonly reads: SharedReads,
    private readonly effects: DecidedEffects,
  ) {}

  forget(lease: Lease): void {
    this.locations.forget(lease);
    this.versions.forget(lease.key);
    this.markDelay.forget(lease.key);
    this.reads.forget(lease.key);
    this.effects.forget(lease);
  }
}
