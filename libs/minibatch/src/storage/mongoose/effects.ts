import { leaseLost } from '../../errors/store-faults.js';
import { ErrorCode, MinibatchError } from '../../errors/minibatch.error.js';
import type { Commit, Effects, Lease } from '../stream-store.interface.js';
import type { Collections } from './collections.js';
import { consumerDocumentId, heldBy } from './consumer-document.js';
import { type DecidedEffects, fieldOf, type HeldState, toUnset } from './decided-effects.js';
import type { EffectsApplication } from './effects-application.js';
import { effectsIn, sizeOfEffects, toStoredEffects } from './effects-codec.js';
import { isHeld } from './leases.js';
import type { ConsumerDocument, StoredEffects } from './schemas/consumer.schema.js';

/** A document has 16 MiB. The rest is for what else is in it. */
export const MAX_EFFECT_BYTES = 12 * 1024 * 1024;

/**
 * Milliseconds. A process that applies effects later than this after it has decided or found them looks whether it still holds the lease:
 * it may have been suspended for longer than the traces stay by which what comes late is recognised.
 */
const SURELY_IN_TIME = 60 * 60 * 1000;

/** What a commit changes in the consumer's document in addition. */
export interface EffectsChange {
  readonly set: Readonly<Record<string, unknown>>;
  readonly unset: Readonly<Record<string, ''>>;
  readonly decided: ReadonlyMap<number, StoredEffects>;
}

type Found = Pick<ConsumerDocument, 'stateId' | 'effects' | 'effectsFence'>;

/**
 * Effects of commits, without transactions. The commit point itself carries them into the consumer's document, so they are decided by it and
 * by nothing else. `settle` applies them before it removes their window; a later update of the document, which is sent anyway, removes them.
 *
 * So effects whose window is still there may not have been applied: the next holder does that when it settles the window. Effects whose
 * window is gone were applied before it went, unless a version has settled it that does not know effects: see `recovered`.
 */
export class CommitEffects {
  constructor(
    private readonly collections: Pick<Collections, 'consumer'>,
    private readonly memory: DecidedEffects,
    private readonly application: EffectsApplication,
  ) {}

  /** Undefined for a commit that neither has effects nor finds any in the document. @throws MinibatchError if they can't be stored */
  change(lease: Lease, { effects }: Commit): Promise<EffectsChange> | undefined {
    if (effects?.size) return this.heldState(lease).then((held) => toChange(lease, held, effects));
    const held = this.memory.of(lease);
    return held && held.settled.size > 0 ? Promise.resolve(toChange(lease, held, new Map())) : undefined;
  }

  lost({ key }: Lease): void {
    this.memory.lost(consumerDocumentId(key));
  }

  committed(lease: Lease, change: EffectsChange | undefined): void {
    const held = change && this.memory.of(lease);
    if (!held) return;
    for (const [seq, stored] of change.decided) held.add(seq, stored);
    if (change.decided.size > 0) held.isStored = true;
    this.memory.wasUnset(lease, change.unset);
  }

  /** Applies those of the windows that are not applied yet. Undefined if there are none. @throws LeaseLost where this process can tell */
  apply(lease: Lease, seqs: readonly number[]): Promise<void> | undefined {
    const held = this.memory.of(lease);
    if (!held) {
      if (this.memory.isOutdated(lease)) throw leaseLost(lease.key);
      return undefined;
    }
    const waiting = seqs.filter((seq) => held.decided.has(seq)).toSorted((a, b) => a - b);
    return waiting.length === 0 ? undefined : this.applyWaiting(lease, held, waiting);
  }

  private async applyWaiting(lease: Lease, held: HeldState, seqs: readonly number[]): Promise<void> {
    const decided = seqs.flatMap((seq) => held.decided.get(seq) ?? []);
    const since = Math.min(...decided.map(({ at }) => at));
    if (Math.abs(Date.now() - since) > SURELY_IN_TIME && !(await isHeld(this.collections, lease)))
      throw leaseLost(lease.key);
    await this.application.apply(seqs.map((seq, n) => ({ seq, effects: decided[n]!.effects })));
  }

  /** The windows are gone, or kept. */
  settled(lease: Lease, seqs: readonly number[]): void {
    const held = this.memory.of(lease);
    if (!held) return;
    for (const seq of seqs) if (held.decided.delete(seq)) held.settled.add(seq);
  }

  /**
   * What a new holder finds: effects of windows that are finished and there are applied when those are settled. Each holder leaves a note
   * that it has found effects. If one has not, since they were decided, it may have been of a version that settles windows without them:
   * then they are applied now, whether they have been or not.
   *
   * @param windows finished ones that are there
   */
  async recovered(lease: Lease, document: Found, windows: readonly number[]): Promise<void> {
    const held = this.memory.begin(lease, document);
    if (document.stateId) await this.application.prepare();
    const found = effectsIn(document);
    if (found.length === 0) return;
    const there = new Set(windows);
    const without = found.filter(({ seq }) => !there.has(seq));
    const noted = Math.max(document.effectsFence ?? 0, ...found.map(({ effects }) => effects.fence));
    const isNoted = lease.fence <= noted + 1;
    if (!isNoted) await this.application.apply(without);
    for (const { seq, effects } of found) if (there.has(seq)) held.add(seq, effects);
    for (const { seq } of without) held.settled.add(seq);
    if (isNoted && held.isIdle) return;
    const unset = this.memory.unset(lease);
    await this.collections.consumer.updateOne(heldBy(lease), {
      $set: { effectsFence: lease.fence },
      ...(unset && { $unset: unset }),
    });
    this.memory.wasUnset(lease, unset);
  }

  /** For a lease that was not recovered here. If it is lost, the commit will tell. */
  private async heldState(lease: Lease): Promise<HeldState> {
    const known = this.memory.of(lease);
    if (known) return known;
    const projection = { stateId: 1, effects: 1 } as const;
    const document = (await this.collections.consumer.findOne(heldBy(lease), { projection })) ?? {};
    const held = this.memory.begin(lease, document);
    for (const { seq, effects } of effectsIn(document)) held.add(seq, effects);
    return held;
  }
}

/** @throws MinibatchError if the effects can't be stored */
function toChange(lease: Lease, held: HeldState, effects: ReadonlyMap<number, Effects>): EffectsChange {
  const decided = new Map<number, StoredEffects>();
  for (const [seq, each] of effects) {
    // A repeated commit: they are applied already.
    if (held.settled.has(seq)) continue;
    const window = `${consumerDocumentId(lease.key)}/${lease.fence}/${seq}`;
    const stored = toStoredEffects(each, { fence: lease.fence, state: held.stateId, window });
    if (stored) decided.set(seq, stored);
  }
  refuseTooLarge(lease, held, decided);
  return {
    set: {
      ...Object.fromEntries([...decided].map(([seq, stored]) => [fieldOf(seq), stored])),
      ...(decided.size > 0 && !held.isStored && { stateId: held.stateId }),
    },
    unset: toUnset(held.settled),
    decided,
  };
}

/** @throws MinibatchError `StoreRefused`: together with those that stay, there are too many bytes for the document */
function refuseTooLarge(lease: Lease, held: HeldState, decided: ReadonlyMap<number, StoredEffects>): void {
  if (decided.size === 0) return;
  let bytes = 0;
  for (const effects of decided.values()) bytes += sizeOfEffects(effects);
  for (const [seq, other] of held.decided) if (!decided.has(seq)) bytes += other.bytes;
  if (bytes <= MAX_EFFECT_BYTES) return;
  const { group, stream } = lease.key;
  throw new MinibatchError(
    ErrorCode.StoreRefused,
    `the effects of a commit of group '${group}' on stream '${stream}' have ${bytes} bytes together with those that are not settled, ` +
      `at most ${MAX_EFFECT_BYTES} can be stored: commit fewer windows at once, or smaller rows and messages`,
    { details: { stream, group, bytes, allowed: MAX_EFFECT_BYTES } },
  );
}
