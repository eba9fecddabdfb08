import { mongo } from 'mongoose';
import type { ConsumerKey, Lease } from '../stream-store.interface.js';
import { consumerDocumentId } from './consumer-document.js';
import { sizeOfEffects } from './effects-codec.js';
import type { ConsumerDocument, StoredEffects } from './schemas/consumer.schema.js';

/** Effects of a window that are in the consumer's document, and not applied yet. */
export interface Decided {
  readonly effects: StoredEffects;
  readonly bytes: number;
  /** Milliseconds, by the system's clock: when this process decided or found them. */
  readonly at: number;
}

/** What a process knows of the state of a consumer whose lease it holds, or has held. */
export class HeldState {
  readonly decided = new Map<number, Decided>();
  /** `seq`s of settled windows whose effects are still in the document: its next update removes them. */
  readonly settled = new Set<number>();
  readonly stateId: mongo.ObjectId;
  /** The document says so as well. */
  isStored: boolean;
  isLost = false;

  constructor(
    readonly fence: number,
    stateId: mongo.ObjectId | undefined,
  ) {
    this.stateId = stateId ?? new mongo.ObjectId();
    this.isStored = stateId !== undefined;
  }

  add(seq: number, effects: StoredEffects): void {
    this.decided.set(seq, { effects, bytes: sizeOfEffects(effects), at: Date.now() });
  }

  /** There is nothing to keep of it beyond the lease. */
  get isIdle(): boolean {
    return this.decided.size === 0;
  }
}

/** By consumer, from the takeover to the release of its lease: so a holder that reads or changes its state asks for nothing else. */
export class DecidedEffects {
  private readonly held = new Map<string, HeldState>();

  begin({ key, fence }: Lease, document: Pick<ConsumerDocument, 'stateId'>): HeldState {
    const held = new HeldState(fence, document.stateId);
    this.held.set(consumerDocumentId(key), held);
    return held;
  }

  of({ key, fence }: Lease): HeldState | undefined {
    const held = this.held.get(consumerDocumentId(key));
    return held?.fence === fence ? held : undefined;
  }

  /** This process has taken the consumer over since, and has found what was decided before. */
  isOutdated({ key, fence }: Lease): boolean {
    const held = this.held.get(consumerDocumentId(key));
    return held !== undefined && held.fence > fence && (held.isStored || !held.isIdle);
  }

  /** Undefined: another process may know. Null: it has none. */
  stateOf(key: ConsumerKey): string | null | undefined {
    const held = this.held.get(consumerDocumentId(key));
    if (!held || held.isLost) return undefined;
    return held.isStored ? held.stateId.toHexString() : null;
  }

  /** Somebody else may hold the lease, or the group is gone. What was decided is kept: this process may still settle it. */
  lost(id: string): void {
    const held = this.held.get(id);
    if (held) held.isLost = true;
  }

  forget(lease: Lease): void {
    const held = this.of(lease);
    if (held?.isIdle) this.held.delete(consumerDocumentId(lease.key));
    else if (held) held.isLost = true;
  }

  /** Part of an update of the consumer's document. */
  unset(lease: Lease): Record<string, ''> | undefined {
    const held = this.of(lease);
    return held && held.settled.size > 0 ? toUnset(held.settled) : undefined;
  }

  /** An update with what `unset` has returned was sent, and the document is as it says unless the lease is lost. */
  wasUnset(lease: Lease, unset: Record<string, ''> | undefined): void {
    const held = this.of(lease);
    if (!held || !unset) return;
    for (const seq of held.settled) if (fieldOf(seq) in unset) held.settled.delete(seq);
  }
}

export function fieldOf(seq: number): string {
  return `effects.${seq}`;
}

export function toUnset(seqs: Iterable<number>): Record<string, ''> {
  return Object.fromEntries([...seqs].map((seq) => [fieldOf(seq), ''] as const));
}
