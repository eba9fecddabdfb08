import { Schema } from 'mongoose';
import type { Types } from 'mongoose';
import type { WindowRequest } from '../../stream-store.interface.js';
import { schemaOptions } from './schema-options.js';

/** A stream, and what its consumers have to agree on. `interval` and `last_read` belong to Python. */
export interface StreamDocument {
  _id: Types.ObjectId;
  name: string;
  /** Python writes `initialize` where this package means `init`. */
  status: string;
  created: Date;
  closed?: Date | null;
  /** Seconds. */
  interval?: number;
  last_read?: Date;
  /** Absent from streams that only Python has written. */
  schemaVersion?: number;
  groups?: string[];
  /** Increases with every change of `groups`, so that the consumers' copies never go back to an older list. */
  groupsVersion?: number;
  paused?: boolean;
  flushes?: number;
  clearings?: number;
  requests?: WindowRequest[];
  /** How often consumers were asked for something. */
  asked?: number;
  /** Absent: one. Earlier versions work for the first partition only. */
  partitions?: number;
  growths?: { from: number; at: Date }[];
  /** By the source's name, encoded as a field name. */
  checkpoints?: Record<string, { position: unknown; at: Date }>;
}

export const StreamSchema = new Schema<StreamDocument>(
  {
    name: { type: String, required: true },
    status: { type: String, required: true },
    created: { type: Date, required: true },
    closed: Date,
    interval: Number,
    last_read: Date,
    schemaVersion: Number,
    groups: [String],
    groupsVersion: Number,
    paused: Boolean,
    flushes: Number,
    clearings: Number,
    requests: { type: [Schema.Types.Mixed], default: undefined },
    asked: Number,
    partitions: Number,
    growths: { type: [Schema.Types.Mixed], default: undefined },
    checkpoints: Schema.Types.Mixed,
  },
  schemaOptions('stream'),
);
