import { Schema } from 'mongoose';
import type { Types } from 'mongoose';
import { schemaOptions } from './schema-options.js';

/** A message in the buffer. Messages written by Python lack the optional fields. */
export interface BufferDocument {
  _id: Types.ObjectId;
  stream: string;
  created: Date;
  data?: unknown;
  /**
   * True: an int64 in `data` is a bigint. Absent, as in messages of Python: it is a number if that is exact. Copied wherever `data` is
   * copied.
   */
  bigints?: boolean;
  /** True: claimed by Python, kept, a tombstone or a hidden copy. Consumers of this package do not read it. */
  processed: boolean;
  key?: string;
  headers?: Readonly<Record<string, string>>;
  /** Stream, NUL and dedupe id in one field, because a sparse index on one field works on every server. */
  dedupeKey?: string;
  /** Absent means 0. */
  partition?: number;
  /** Groups that have committed the message, while others have not. */
  done?: string[];
  /**
   * Groups that the message waits for, written with the first mark, so that an index leads a group to what it has not committed. It may
   * contain a group that has committed in the meantime, but never lacks one that has not: `done` decides.
   */
  waits?: string[];
  /** A group keeps the message: the last group to commit marks it processed instead of removing it. */
  keep?: boolean;
  /** When all groups had committed it. Only of a kept message or a tombstone. */
  settled?: Date;
  /** Marks a hidden copy of a dead letter's message: ids of the letter and of the copy itself (see `redrive.ts`). */
  redrives?: [letter: string, copy: Types.ObjectId];
  /**
   * Set if the message was put back into the buffer. It is the name of the stream, because the change stream sends only this field of the
   * update.
   */
  redriven?: string;
  /** The `_id` of the kept message that this one is a copy of. The copy is not kept when it is committed. */
  replayOf?: Types.ObjectId;
  /** The stream was cleared while it contained the message. */
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
