import { Schema } from 'mongoose';
import type { mongo } from 'mongoose';
import type { ConsumerProgress, LeaseOwner } from '../../stream-store.interface.js';
import { schemaOptions } from './schema-options.js';

/** Both ends included. */
export type SeqRange = [from: number, to: number];

/** Who asks for a lease, and the fence it had then: with another one it counts no more. Earlier versions don't remove it. */
export interface LeaseHeir extends LeaseOwner {
  fence: number;
}

export interface StoredRow {
  slot: string;
  value: mongo.Binary;
  /** Milliseconds since 1970: not every server and language holds every date. */
  due?: number;
}

/** A message that a commit appends. */
export interface StoredOutput {
  stream: string;
  partition?: number;
  /** The data hold a bigint. */
  bigints?: true;
  /** See `storage/encoded-message.ts`. */
  body: mongo.Binary;
}

/** What a commit has decided for one of its windows. */
export interface StoredEffects {
  /** The lease that decided it. */
  fence: number;
  /** The state that the rows belong to. */
  state: mongo.ObjectId;
  put?: StoredRow[];
  /** Slots. */
  remove?: string[];
  append?: StoredOutput[];
}

/** One consumer: a group's part of a stream. The commit point is one update of this document. */
export interface ConsumerDocument {
  /** See `consumerDocumentId`. */
  _id: string;
  stream: string;
  group: string;
  partition: number;
  created: Date;
  lease: { owner?: LeaseOwner; heir?: LeaseHeir; fence: number; counter: number; holdTime?: number };
  /** Fence of the last holder that adopted the open windows; windows with a smaller one are void. */
  adopted: number;
  /** `seq`s of the windows of the last commit. */
  finished: SeqRange[];
  progress: ConsumerProgress;
  /** Copy of the stream's groups, so that the commit point returns them in the same step. */
  groups: string[];
  /** Version of the copy. */
  groupsVersion: number;
  /** Copy of the stream's count, so that a consumer sees with its commit that it was asked for something. */
  asked?: number;
  /** The `_id` of the consumer that this one replaced. */
  replaces?: string;
  /** The fence with which it was registered again after a removal: while it has that fence, nobody has held its lease. */
  firstFence?: number;
  /** Its rows in the collection `state`; given with its first effects, and never to another consumer except by `replaces`. */
  stateId?: mongo.ObjectId;
  /** By `seq`: effects of windows that are finished. They go with the first update after their window was settled. */
  effects?: Record<string, StoredEffects>;
  /** The last holder that found effects when it took over. One without a note may be of a version that does not know them. */
  effectsFence?: number;
  /** What a holder of the lease said last. */
  note?: string;
  /** The group was removed. The document stays because of its fence: late claims of a former holder must stay void. */
  retired?: true;
}

export const ConsumerSchema = new Schema<ConsumerDocument>(
  {
    _id: { type: String, required: true },
    stream: { type: String, required: true },
    group: { type: String, required: true },
    partition: { type: Number, required: true },
    created: Date,
    lease: Schema.Types.Mixed,
    adopted: Number,
    finished: [[Number]],
    progress: Schema.Types.Mixed,
    groups: [String],
    groupsVersion: Number,
    asked: Number,
    replaces: String,
    firstFence: Number,
    stateId: Schema.Types.ObjectId,
    effects: Schema.Types.Mixed,
    effectsFence: Number,
    note: String,
    retired: Boolean,
  },
  schemaOptions('consumer'),
);
