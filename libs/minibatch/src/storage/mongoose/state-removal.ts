import { mongo } from 'mongoose';
import type { Collections } from './collections.js';
import { NOT_RETIRED } from './consumer-document.js';
import { effectsIn } from './effects-codec.js';
import type { EffectsApplication } from './effects-application.js';
import type { Indexes } from './indexes.js';
import type { ConsumerDocument } from './schemas/consumer.schema.js';
import type { StateDocument } from './schemas/state.schema.js';
import { rowsOf } from './state-keys.js';

/**
 * Milliseconds for which a removed row, and the note of a removed state, stay. A former holder that applies its effects later than an hour
 * after their commit looks whether it still holds the lease, so what comes late comes much earlier than this.
 */
const TRACES_STAY = 24 * 60 * 60 * 1000;
/** Milliseconds. Consumers are swept stream by stream, and one sweep is for all. */
const SWEEP_PAUSE = 60 * 60 * 1000;

type Owner = Pick<ConsumerDocument, '_id' | 'stateId' | 'effects'>;

const OWNER = { stateId: 1, effects: 1 } as const;

/** Of BSON. */
const STRING = 2;

/** By their look, because others may write into the collection. */
const REMOVED_ROW = {
  _id: /^[0-9a-f]{24}[\s\S]/,
  version: { $type: STRING },
  value: { $exists: false },
} as const;
const REMOVED_STATE = { _id: /^[0-9a-f]{24}$/, dropped: true } as const;

/** What becomes of the state of consumers that are gone, and of removed rows. */
export class StateRemoval {
  private swept = -Infinity;

  constructor(
    private readonly collections: Pick<Collections, 'consumer' | 'state' | 'window'>,
    private readonly application: EffectsApplication,
    private readonly indexes: Indexes,
  ) {}

  /** Consumers that have, or had, state. */
  find(filter: mongo.Filter<ConsumerDocument>): Promise<readonly Owner[]> {
    return this.collections.consumer.find({ ...filter, stateId: { $exists: true } }, { projection: OWNER }).toArray();
  }

  /**
   * Messages that their commits have decided, and nobody has appended: of windows that are still there. To be called when nobody can commit
   * for the consumers any more, and before their windows go.
   */
  async appendDecided(owners: readonly Owner[]): Promise<void> {
    for (const owner of owners) {
      const found = effectsIn(owner).filter(({ effects }) => effects.append);
      if (found.length === 0) continue;
      const open = { processed: false, consumer: owner._id };
      const projection = { seq: 1, 'windows.seq': 1 } as const;
      const windows = await this.collections.window.find(open, { projection }).toArray();
      const there = new Set(
        windows.flatMap(({ seq, windows: shared = [] }) => [seq, ...shared.map((each) => each.seq)]),
      );
      const waiting = found.filter(({ seq }) => there.has(seq));
      await this.application.append(waiting.flatMap(({ effects }) => effects.append ?? []));
    }
  }

  /**
   * Removes the rows, unless another consumer has taken them over. A former holder may still write some, which nobody reads: a note has
   * them removed by a later sweep.
   */
  async remove(owners: readonly Owner[]): Promise<void> {
    const ids = owners.flatMap(({ stateId }) => stateId ?? []);
    if (ids.length === 0) return;
    await this.indexes.ensureState();
    for (const id of ids) {
      if (await this.isOwned(id)) continue;
      await this.note(id);
      await this.removeRows(id.toHexString());
    }
    const gone = { _id: { $in: owners.map(({ _id }) => _id) }, retired: true } as const;
    await this.collections.consumer.updateMany(gone, { $unset: { stateId: '', effects: '', effectsFence: '' } });
  }

  /** Before the documents of their consumers go: if the process stops in between, a later sweep removes the rows. */
  async announce(owners: readonly Owner[]): Promise<void> {
    const ids = owners.flatMap(({ stateId }) => stateId ?? []);
    if (ids.length > 0) await this.indexes.ensureState();
    for (const id of ids) await this.note(id);
  }

  /** Only in processes that have to do with state: others have no reason to look. */
  async sweep(now = Date.now()): Promise<void> {
    if (!this.indexes.usesState || performance.now() - this.swept < SWEEP_PAUSE) return;
    this.swept = performance.now();
    const { state } = this.collections;
    const settled = { $lt: new Date(now - TRACES_STAY) };
    await state.deleteMany({ settled, ...REMOVED_ROW });
    for (const { _id } of await state.find({ settled, ...REMOVED_STATE }).toArray()) {
      if (!(await this.isOwned(mongo.ObjectId.createFromHexString(_id)))) await this.removeRows(_id);
      await state.deleteOne({ _id, dropped: true });
    }
  }

  private async note(id: mongo.ObjectId): Promise<void> {
    const note = { settled: new Date(), dropped: true } as const;
    await this.collections.state.updateOne({ _id: id.toHexString() }, { $set: note }, { upsert: true });
  }

  private async removeRows(id: string): Promise<void> {
    const rows: mongo.Filter<StateDocument> = { _id: rowsOf(id) };
    await this.collections.state.deleteMany(rows);
  }

  private async isOwned(stateId: mongo.ObjectId): Promise<boolean> {
    const owner = { stateId, ...NOT_RETIRED };
    return (await this.collections.consumer.findOne(owner, { projection: { _id: 1 } })) !== null;
  }
}
