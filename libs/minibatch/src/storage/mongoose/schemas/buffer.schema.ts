import { Schema } from 'mongoose';
import type { Types } from 'mongoose';
import { schemaOptions } from './schema-options.js';

/** A message in the buffer. Python's are without the optional fields. */
export interface BufferDocument {
  _id: Types.ObjectId;
  stream: string;
  created: Date;
  data?: unknown;
  /** An int64 in `data` is a bigint; where it is absent, as in Python's, a number if that is exact. Goes wherever `data` goes. */
  bigints?: boolean;
  /** True: claimed by Python, kept, a tombstone, or a copy that is hidden; never read by a consumer of ours. */
  processed: boolean;
  key?: string;
  headers?: Readonly<Record<string, string>>;
  /** Stream, NUL and dedupe id: one field, because a sparse index on one field is right on every server. */
  dedupeKey?: string;
  /** Absent means 0. */
  partition?: number;
  /** Groups that have committed the message, while others have not. */
  done?: string[];
  /**
   * Groups that the message waits for, written with the first mark, so that a group finds what it has not committed by an index. It
   * may name one that has committed meanwhile, never leave out one that has not: `done` decides.
   */
  waits?: string[];
  /** A group keeps the message: whoever commits last marks it processed in place of removing it. */
  keep?: boolean;
  /** When it was committed by all, if it stays: kept, or as a tombstone. */
  settled?: Date;
  /** Marks a hidden copy of a dead letter's message: ids of the letter and of the copy itself (see `redrive.ts`). */
  redrives?: [letter: string, copy: Types.ObjectId];
  /** A message that has been a dead letter. The stream's name once more: a change stream tells nothing else of the update. */
  redriven?: string;
  /** Marks the copy of a kept message, that one's `_id`. The copy is not kept when it is committed. */
  replayOf?: Types.ObjectId;
  /** The stream was cleared while the message was in it. */
  cleared?: boolean;
}

export const BufferSchema = new Schema<BufferDocument>(
  {
    stream: { type: String, required: true },
    created: { type: Date, required: true },
    data: Schema.Types.Mixed,
    bigints: Boolean,
    processed: { type: Boolean, required: true },
    key: String,
    headers: Schema.Types.Mixed,
    dedupeKey: String,
    partition: Number,
    done: { type: [String], default: undefined },
    waits: { type: [String], default: undefined },
    keep: Boolean,
    settled: Date,
    redrives: { type: [Schema.Types.Mixed], default: undefined },
    redriven: String,
    replayOf: Schema.Types.ObjectId,
    cleared: Boolean,
  },
  schemaOptions('buffer'),
);
